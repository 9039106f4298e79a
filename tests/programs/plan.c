// SPDX-License-Identifier: BSD-2-Clause
// Values to capture, by address: plan [-n N] KIND...
//
//   gcc -g -O2 -Wall -pthread -o plan plan.c -ldl
//
//   shape      shape(&box, "name-I", -I) == &box, N times; box holds I in each width, and afterwards a result
//   absent     absent(TEXT, RAW), once: both in a file's pages that no process has touched
//   edge       edge(TEXT), once: TEXT's NUL is the last byte that is mapped
//   bad        bad((struct box *)8, ADDRESS), once: nothing is mapped at either
//   hot        hot(1, 2, "twenty bytes of text"), N times
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "truth.h"

enum { PAGE = 4096, LONG_TEXT = 70000 };

struct box {
	int8_t s8;
	int16_t s16;
	int32_t s32;
	int64_t s64;
	uint8_t bytes[8];
	uint64_t flags;
	const char *text;
	struct box *next;
	int64_t result;
};

static long rounds = 97;
static char *long_text;

TRACED struct box *shape(struct box *box, const char *text, long number)
{
	OPAQUE(text);
	box->result = number * 2;
	OPAQUE(box);
	return box;
}

TRACED long absent(const char *text, const uint64_t *raw)
{
	OPAQUE(text);
	OPAQUE(raw);
	return 1;
}

TRACED long edge(const char *text)
{
	OPAQUE(text);
	return 2;
}

TRACED long bad(const struct box *box, const char *text)
{
	OPAQUE(box);
	OPAQUE(text);
	return 3;
}

TRACED long hot(long a, long b, const char *text)
{
	OPAQUE(text);
	return a + b;
}

static void shapes(void)
{
	static struct box next = { .s64 = 4711 };
	struct box box = { .bytes = "\1\2\3\4\5\6\7\10", .text = "inside", .next = &next };
	char text[32];

	for (long i = 0; i < rounds; i++) {
		box.s8 = box.s16 = box.s32 = box.s64 = -i;
		box.flags = (uint64_t)i << 4 | 0xf;
		snprintf(text, sizeof text, "name-%ld", i);
		CALLED("shape", shape(&box, i == 5 ? long_text : text, -i));
	}
}

// A fresh mapping of a file that is in no page table yet
static char *untouched(void)
{
	char path[] = "/tmp/pyebpf-plan-XXXXXX";
	int file = mkstemp(path);
	char *pages;

	if (file < 0 || pwrite(file, "across two pages", 17, PAGE - 6) != 17 || ftruncate(file, 3 * PAGE) != 0)
		abort();
	pages = mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	unlink(path);
	close(file);
	if (pages == MAP_FAILED || madvise(pages, 3 * PAGE, MADV_RANDOM) != 0) // no neighbours are mapped along
		abort();
	return pages;
}

static char *at_the_edge(void)
{
	char *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || munmap(pages + PAGE, PAGE) != 0)
		abort();
	return strcpy(pages + PAGE - 5, "last");
}

int main(int argc, char **argv)
{
	char *pages, *last;

	long_text = malloc(LONG_TEXT);
	memset(long_text, 'x', LONG_TEXT);
	long_text[5000] = 0;
	while (getopt(argc, argv, "n:") == 'n')
		rounds = atol(optarg);
	pages = untouched();
	last = at_the_edge();
	ready("plan");
	for (int i = optind; i < argc; i++) {
		if (strcmp(argv[i], "shape") == 0)
			shapes();
		else if (strcmp(argv[i], "absent") == 0)
			CALLED("absent", absent(pages + PAGE - 6, (uint64_t *)(pages + 2 * PAGE)));
		else if (strcmp(argv[i], "edge") == 0)
			CALLED("edge", edge(last));
		else if (strcmp(argv[i], "bad") == 0)
			CALLED("bad", bad((struct box *)8, (char *)PAGE));
		else if (strcmp(argv[i], "hot") == 0)
			for (long j = 0; j < rounds; j++)
				CALLED("hot", hot(1, 2, "twenty bytes of text"));
	}
	begin_truth("plan");
	end_truth();
	return 0;
}

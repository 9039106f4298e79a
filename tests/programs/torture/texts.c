// SPDX-License-Identifier: BSD-2-Clause
// Code whose memory changes under the probes: texts [-n N] [-t THREADS] KIND
//
//   gcc -g -O2 -Wall -pthread -o texts texts.c     also: -static-pie, -fcf-protection, -pg -mfentry -mnop-mcount,
//                                                  -fpatchable-function-entry=5, -Wl,-z,max-page-size=0x200000
//
//   protects   the text is made readable only while nobody runs it, then executable, N times; and writable and executable
//   moves      a mapping of the program's own text is moved by mremap, called at each place, and unmapped
//   copies     the text is written to (another function's padding), so that its page becomes the process's own, and called
//   drops      works(i), N times; then the page it is on is thrown away before each of N calls more, which are not told
//   huge       the text is on huge pages before anybody looks: "huge", in kB (madvise(MADV_COLLAPSE); tmpfs can have it, a text
//              aligned to 2 MB); it is asked to be made huge again and again; with -w another line tells
//              "huge_after", what it is behind the tracing
//   jit        code is written, made executable, called, and rewritten beside traced functions, W^X
//   folded     same_a and same_b, identical code; one address with two names if the linker folds them
//   hot        works(i), N times in each thread: nothing else
//   leaf       leaf(i): keeps values below the stack pointer across a five-byte nop
#include "torture.h"

#include <pthread.h>

enum { WORKS, SAME_A, SAME_B, LEAF, FUNCTIONS };
static const char *const names[FUNCTIONS] = { "works", "same_a", "same_b", "leaf" };

enum { PAGE = 4096, HUGE_PAGE = 2 << 20 };

// Alone on its pages, so that these can be taken away while others run
__attribute__((section(".text.alone"), aligned(PAGE))) TRACED long works(long i)
{
	entered(WORKS);
	OPAQUE(i);
	left(WORKS);
	return i * 3 + 1;
}

__attribute__((section(".text.alone"), aligned(PAGE), used)) static void behind(void)
{
	__asm__ volatile(".skip 64, 0xcc");
}

#ifdef HUGE_TEXT // enough of it for a huge page
__asm__(".section .text.alone, \"ax\"\n.skip 4 << 20, 0xcc\n.text\n");
#endif

__attribute__((section(".text.same_a"))) TRACED long same_a(long i)
{
	OPAQUE(i);
	return i * 5 + 3;
}

__attribute__((section(".text.same_b"))) TRACED long same_b(long i)
{
	OPAQUE(i);
	return i * 5 + 3;
}

#ifdef __x86_64__
// A leaf function may use the 128 bytes below the stack pointer as it likes. leaf_nop names the nop.
long leaf(long i);
__asm__(
	".text\n"
	".globl leaf\n"
	".type leaf, @function\n"
	"leaf:\n"
	".cfi_startproc\n"
	"mov %rdi, -8(%rsp)\n"
	"mov %rdi, -16(%rsp)\n"
	"mov %rdi, -24(%rsp)\n"
	"mov %rdi, -32(%rsp)\n"
	".byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
	"mov -8(%rsp), %rax\n"
	"add -16(%rsp), %rax\n"
	"add -24(%rsp), %rax\n"
	"add -32(%rsp), %rax\n"
	"ret\n"
	".cfi_endproc\n"
	".size leaf, . - leaf\n"
);
#else
TRACED long leaf(long i)
{
	return 4 * i;
}
#endif

static void calls(long i)
{
	check((uint64_t)works(i), (uint64_t)(3 * i + 1));
}

static void protect(void *at, size_t size, int rights)
{
	if (mprotect(at, size, rights) != 0)
		fails("mprotect");
}

static void protects(void)
{
	void *page = (void *)works;

	for (long i = 0; i < rounds; i++) {
		calls(i);
		protect(page, PAGE, PROT_READ);
		protect(page, PAGE, i % 3 == 2 ? PROT_READ | PROT_WRITE | PROT_EXEC : PROT_READ | PROT_EXEC);
		calls(i);
		survived();
	}
}

// The mapping of the text that works is in
struct Place {
	uintptr_t start, end;
	unsigned long offset;
	char path[512];
};

static struct Place text_of(void *function)
{
	struct Place place;
	char line[1024], rights[8];
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
		place.path[0] = 0;
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %lx %*s %*s %511s", &place.start, &place.end, rights,
			   &place.offset, place.path) >= 4 && place.start <= (uintptr_t)function && (uintptr_t)function < place.end) {
			fclose(maps);
			return place;
		}
	}
	fails("/proc/self/maps");
	abort();
}

static void moves(void)
{
	struct Place text = text_of((void *)works);
	size_t size = text.end - text.start, at = (uintptr_t)works - text.start;
	FILE *self = fopen("/proc/self/exe", "r");

	for (long i = 0; i < rounds; i++) {
		// Twice as much room, so that the second half is free to move to; works uses data by the distance to them, so the
		// copy must not: it counts for nothing, and leaf alone is called there
		char *here = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *there = here + size;
		long (*moved)(long);

		if (mmap(here, size, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, fileno(self), (off_t)text.offset) != here)
			fails("mmap");
		at = (uintptr_t)leaf - text.start;
		*(void **)&moved = here + at;
		entered(LEAF);
		check((uint64_t)moved(i), (uint64_t)(4 * i));
		left(LEAF);
		if (mremap(here, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, there) != there)
			fails("mremap");
		*(void **)&moved = there + at;
		entered(LEAF);
		check((uint64_t)moved(i), (uint64_t)(4 * i));
		left(LEAF);
		munmap(there, size);
		survived();
	}
	fclose(self);
}

static void copies(void)
{
	unsigned char *padding = (unsigned char *)works + PAGE - 1;

	for (long i = 0; i < rounds; i++) {
		protect((void *)works, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
		*(volatile unsigned char *)padding = (unsigned char)i; // the page is the process's own from here on
		protect((void *)works, PAGE, PROT_READ | PROT_EXEC);
		calls(i);
		survived();
	}
}

static void drops(void)
{
	for (long i = 0; i < rounds; i++)
		calls(i);
	for (long i = 0; i < rounds; i++) {
		madvise((void *)works, PAGE, MADV_DONTNEED);
		check((uint64_t)works(i), (uint64_t)(3 * i + 1));
		survived();
	}
	// The kernel's breakpoints went with the first page: these calls are seen by nobody
	shared->calls[WORKS] -= (uint64_t)rounds;
	shared->returns[WORKS] -= (uint64_t)rounds;
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

// How much of the text is mapped by huge pages, in kB
static unsigned long huge_kilobytes(void)
{
	char line[1024];
	unsigned long sum = 0, kilobytes;
	uintptr_t start, end;
	int inside = 0;
	FILE *maps = fopen("/proc/self/smaps", "r");

	while (maps != NULL && fgets(line, sizeof line, maps) != NULL) {
		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &start, &end) == 2)
			inside = start <= (uintptr_t)works && (uintptr_t)works < end;
		else if (inside && (sscanf(line, "ShmemPmdMapped: %lu kB", &kilobytes) == 1 ||
				    sscanf(line, "FilePmdMapped: %lu kB", &kilobytes) == 1))
			sum += kilobytes;
	}
	if (maps != NULL)
		fclose(maps);
	return sum;
}

static unsigned long collapse(void)
{
	uintptr_t start = (uintptr_t)works & ~(uintptr_t)(HUGE_PAGE - 1);

	madvise((void *)start, HUGE_PAGE, MADV_COLLAPSE); // it may say no
	return huge_kilobytes();
}

static void huge(void)
{
	for (long i = 0; i < rounds; i++) {
		if (i % 16 == 0)
			collapse();
		calls(i);
		survived();
	}
}

static void jit(void)
{
#ifdef __x86_64__
	// mov $imm32, %eax; ret
	unsigned char code[] = { 0xb8, 0, 0, 0, 0, 0xc3 };
	unsigned char *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (int32_t i = 0; i < rounds; i++) {
		long (*made)(void);

		protect(page, PAGE, PROT_READ | PROT_WRITE);
		memcpy(code + 1, &i, 4);
		memcpy(page + i % 64 * 8, code, sizeof code);
		protect(page, PAGE, PROT_READ | PROT_EXEC);
		*(void **)&made = page + i % 64 * 8;
		check((uint64_t)made(), (uint64_t)i);
		calls(i);
		survived();
	}
#else
	for (long i = 0; i < rounds; i++) {
		calls(i);
		survived();
	}
#endif
}

static void folded(void)
{
	for (long i = 0; i < rounds; i++) {
		check((uint64_t)same_a(i), (uint64_t)(5 * i + 3));
		entered(SAME_A), left(SAME_A);
		check((uint64_t)same_b(i), (uint64_t)(5 * i + 3));
		entered(SAME_B), left(SAME_B);
		survived();
	}
}

static void leaves_red_zone(void)
{
	for (long i = 0; i < rounds; i++) {
		entered(LEAF);
		check((uint64_t)leaf(i), (uint64_t)(4 * i));
		left(LEAF);
		survived();
	}
}

static void *hot(void *argument)
{
	for (long i = 0; i < rounds; i++) {
		calls(i);
		survived();
	}
	return argument;
}

static void run_hot(void)
{
	pthread_t handles[64];

	for (int i = 0; i < threads; i++)
		pthread_create(&handles[i], NULL, hot, NULL);
	for (int i = 0; i < threads; i++)
		pthread_join(handles[i], NULL);
}

int main(int argc, char **argv)
{
	unsigned long before = collapse();

	begins(argc, argv, names, FUNCTIONS);

	if (strcmp(kind, "protects") == 0)
		protects();
	else if (strcmp(kind, "moves") == 0)
		moves();
	else if (strcmp(kind, "copies") == 0)
		copies();
	else if (strcmp(kind, "drops") == 0)
		drops();
	else if (strcmp(kind, "huge") == 0)
		huge();
	else if (strcmp(kind, "jit") == 0)
		jit();
	else if (strcmp(kind, "folded") == 0)
		folded();
	else if (strcmp(kind, "leaf") == 0)
		leaves_red_zone();
	else if (strcmp(kind, "hot") == 0)
		run_hot();
	else
		return 2;
	begins_to_tell();
	tells_number("huge", before);
	ends_telling();
	if (lingers_on) {
		printf("{\"huge_after\": %lu}\n", collapse());
		fflush(stdout);
	}
	return 0;
}

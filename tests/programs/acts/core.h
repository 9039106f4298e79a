// SPDX-License-Identifier: BSD-2-Clause
// What every act of actor.c shares: its words, its reply, and the threads and children that serve acts.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../truth.h"

enum { PAGE = 4096, MOST_WORDS = 20100, MOST_PARTS = 64, COMM = 16 };

// One line: ID WHO ACT[+PATH] WORD...
struct Act {
	char *words[MOST_WORDS];
	int used;
	const char *memory; // what is special about the memory of path names
	FILE *out;          // the reply's own keys, each with a comma before it
	long ret;
	int error;
	uint64_t start, end;
};

struct Handler {
	const char *name;
	void (*run)(struct Act *act);
};

// A thread or child: what is written to the pipe it serves
struct Part {
	char name[COMM];
	FILE *in;
};

static struct Part parts[MOST_PARTS];
static int parts_used;
static pthread_mutex_t *speaking; // shared by all children: one reply after another

static void serve_lines(FILE *in);

// CALL(act, connect(fd, ...)): one system call, timed
#define CALL(act, call) do { \
	(act)->start = now_ns(); \
	errno = 0; \
	(act)->ret = (long)(call); \
	(act)->error = (act)->ret == -1 ? errno : 0; \
	(act)->end = now_ns(); \
} while (0)

static void wrong(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

static void wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "actor [%d]: ", (int)getpid());
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	_exit(2);
}

// What has to work for the act to mean anything
#define MUST(call) ({ \
	long must_ = (long)(call); \
	if (must_ == -1) \
		wrong("%s: %s", #call, strerror(errno)); \
	must_; \
})

static inline const char *word(struct Act *act, int index)
{
	if (index >= act->used)
		wrong("too few words");
	return act->words[index];
}

static inline long number(struct Act *act, int index)
{
	return strtol(word(act, index), NULL, 0);
}

static inline bool is(struct Act *act, int index, const char *text)
{
	return strcmp(word(act, index), text) == 0;
}

// A text in a page of its own that no page table has, or as act->memory says; never freed
static inline char *special(const char *text, const char *memory)
{
	size_t size = strlen(text) + 1, room = (size + 2 * PAGE - 1) / PAGE * PAGE, at = 0;
	bool is_edge = strcmp(memory, "edge") == 0, is_disk = strcmp(memory, "disk") == 0;
	char name[] = "/var/tmp/pyebpf-text-XXXXXX", *pages;
	int file;

	if (is_edge) {
		pages = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (pages == MAP_FAILED || munmap(pages + room, PAGE) != 0)
			wrong("no memory");
		return memcpy(pages + room - size, text, size);
	}
	if (strcmp(memory, "cross") == 0)
		at = PAGE - size / 2;
	else if (strcmp(memory, "cold") != 0 && !is_disk)
		wrong("no such memory: %s", memory);
	file = (int)MUST(is_disk ? mkstemp(name) : memfd_create("text", MFD_CLOEXEC));
	MUST(ftruncate(file, (off_t)room + PAGE));
	MUST(pwrite(file, text, size, (off_t)at));
	if (is_disk) {
		unlink(name);
		fsync(file);
		posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
	}
	pages = mmap(NULL, room + PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	close(file);
	if (pages == MAP_FAILED || madvise(pages, room + PAGE, MADV_RANDOM) != 0) // no neighbours are mapped along
		wrong("no memory");
	if (at != 0)
		(void)*(volatile char *)pages; // the first half is there
	return pages + at;
}

static inline const char *path_word(struct Act *act, int index)
{
	const char *text = word(act, index);

	return act->memory == NULL ? text : special(text, act->memory);
}

static inline void reply_number(struct Act *act, const char *key, long value)
{
	fprintf(act->out, ", \"%s\": %ld", key, value);
}

// Bytes as JSON, each as a character of Latin-1
static inline void reply_text(struct Act *act, const char *key, const char *text)
{
	fprintf(act->out, ", \"%s\": \"", key);
	for (; *text; text++) {
		unsigned char byte = (unsigned char)*text;
		if (byte < 0x20 || byte >= 0x7f || byte == '"' || byte == '\\')
			fprintf(act->out, "\\u%04x", byte);
		else
			fputc(byte, act->out);
	}
	fputc('"', act->out);
}

static int hex(char digit)
{
	return digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

static void unquote(char *text)
{
	char *to = text;

	if (strcmp(text, "-") == 0) { // no bytes at all
		*text = 0;
		return;
	}
	for (; *text; text++) {
		if (*text == '%' && text[1] && text[2]) {
			*to++ = (char)(hex(text[1]) << 4 | hex(text[2]));
			text += 2;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
}

static void prepare_speaking(void)
{
	pthread_mutexattr_t shared;

	speaking = mmap(NULL, sizeof *speaking, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (speaking == MAP_FAILED)
		wrong("no memory");
	pthread_mutexattr_init(&shared);
	pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(speaking, &shared);
}

static void write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t done = write(fd, text, size);
		if (done < 0)
			_exit(0); // the test is gone
		text += done;
		size -= (size_t)done;
	}
}

static struct Part *new_part(const char *name, int *read_end)
{
	struct Part *part = &parts[parts_used];
	int ends[2];

	if (parts_used == MOST_PARTS)
		wrong("too many parts");
	MUST(pipe2(ends, O_CLOEXEC));
	snprintf(part->name, sizeof part->name, "%.15s", name);
	part->in = fdopen(ends[1], "w");
	*read_end = ends[0];
	return part;
}

struct Start {
	char name[COMM];
	int read_end, tid;
	pthread_barrier_t begun;
};

static void *part_main(void *argument)
{
	struct Start *start = argument;
	FILE *in = fdopen(start->read_end, "r");

	prctl(PR_SET_NAME, start->name);
	start->tid = thread_id();
	pthread_barrier_wait(&start->begun);
	serve_lines(in);
	return NULL;
}

// thread NAME
static void act_thread(struct Act *act)
{
	struct Start start = { .tid = 0 };
	struct Part *part = new_part(word(act, 0), &start.read_end);
	pthread_t handle;

	memcpy(start.name, part->name, sizeof start.name);
	pthread_barrier_init(&start.begun, NULL, 2);
	CALL(act, pthread_create(&handle, NULL, part_main, &start));
	pthread_barrier_wait(&start.begun);
	pthread_barrier_destroy(&start.begun); // waits until the thread has left it, too: it lies on this stack
	parts_used++;
	reply_number(act, "child", start.tid);
}

// fork NAME
static void act_fork(struct Act *act)
{
	int read_end, parent = getpid();
	struct Part *part = new_part(word(act, 0), &read_end);

	CALL(act, fork());
	if (act->ret == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		prctl(PR_SET_NAME, part->name);
		fclose(part->in);
		parts_used = 0;
		serve_lines(fdopen(read_end, "r"));
		_exit(0);
	}
	close(read_end);
	parts_used++;
	reply_number(act, "child", act->ret);
}

// reap PID: waits for a child's end; "status": as wait(2) tells it
static void act_reap(struct Act *act)
{
	int status = 0;

	CALL(act, waitpid((pid_t)number(act, 0), &status, 0));
	reply_number(act, "status", status);
}

// comm NAME
static void act_comm(struct Act *act)
{
	CALL(act, prctl(PR_SET_NAME, word(act, 0)));
}

// exit CODE: of the whole process, without closing anything
static void act_exit(struct Act *act)
{
	_exit((int)number(act, 0));
}

static const struct Handler *handler(const char *name);

static bool forwarded(const char *who, const char *id, const char *rest)
{
	const char *slash = strchr(who, '/');
	size_t length = slash ? (size_t)(slash - who) : strlen(who);

	if (strcmp(who, ".") == 0)
		return false;
	for (int i = 0; i < parts_used; i++) {
		if (strlen(parts[i].name) != length || memcmp(parts[i].name, who, length) != 0)
			continue;
		fprintf(parts[i].in, "%s %s %s\n", id, slash ? slash + 1 : ".", rest);
		fflush(parts[i].in);
		return true;
	}
	wrong("nobody here is called %s", who);
}

static void perform(const char *id, char *rest)
{
	const struct Handler *found;
	struct Act *act = calloc(1, sizeof *act);
	char *text, *saved, comm[COMM] = "", *all, *plus;
	size_t size, whole;
	FILE *reply;

	for (text = strtok_r(rest, " ", &saved); text != NULL && act->used < MOST_WORDS; text = strtok_r(NULL, " ", &saved)) {
		unquote(text);
		act->words[act->used++] = text;
	}
	plus = strchr(act->words[0], '+');
	if (plus != NULL) {
		*plus = 0;
		act->memory = plus + 1;
	}
	found = handler(act->words[0]);
	if (found == NULL)
		wrong("no such act: %s", act->words[0]);
	memmove(act->words, act->words + 1, sizeof act->words - sizeof *act->words);
	act->used--;
	act->out = open_memstream(&text, &size);
	found->run(act);
	fclose(act->out);
	reply = open_memstream(&all, &whole);
	prctl(PR_GET_NAME, comm);
	fprintf(reply, "{\"id\": %s, \"act\": \"%s\", \"pid\": %d, \"tid\": %d, \"comm\": \"%s\", "
		"\"ret\": %ld, \"errno\": %d, \"start\": %" PRIu64 ", \"end\": %" PRIu64 "%s}\n",
		id, found->name, (int)getpid(), thread_id(), comm, act->ret, act->error, act->start, act->end, text);
	fclose(reply);
	pthread_mutex_lock(speaking);
	write_all(1, all, whole);
	pthread_mutex_unlock(speaking);
	free(all);
	free(text);
	free(act);
}

static void serve_lines(FILE *in)
{
	char *line = NULL, *who, *rest, *saved;
	size_t room = 0;

	while (getline(&line, &room, in) > 0) {
		line[strcspn(line, "\n")] = 0;
		const char *id = strtok_r(line, " ", &saved);
		who = strtok_r(NULL, " ", &saved);
		rest = strtok_r(NULL, "", &saved);
		if (id == NULL || who == NULL || rest == NULL)
			wrong("not an act");
		unquote(who);
		if (!forwarded(who, id, rest))
			perform(id, rest);
	}
	free(line);
}

// SPDX-License-Identifier: BSD-2-Clause
// Functions that are left in every way C knows: leaves [-n N] [-t THREADS] KIND
//
//   gcc -g -O2 -Wall -pthread -o leaves leaves.c        also: clang, -static, -static-pie, -fcf-protection, -pg, ...
//
//   jumps      dive(8) in THREADS threads, N times each; every second one is left by longjmp, nine frames at once
//   tails      direct -> finish; even <-> odd, 100 jumps a call; dispatch -> one, two or three. Of the calls of a function in
//              one chain of jumps one returns, as all have the same frame
//   frames     grows(i): alloca of i bytes and a VLA; pages(i): a frame of 64 KB
//   signals    raises(i): a signal inside, whose handler on an alternate stack calls handled(i); every third handler is left
//              by siglongjmp. While that goes on a timer interrupts wherever it is, and its handler calls ticks(i)
//   overflow   falls(i): recursion without end; the fault is caught on an alternate stack and left by siglongjmp
//   contexts   steps(i): gives its context away inside, to one of 97 others, on two threads in turn; every tenth context is
//              dropped in the middle of a call, and its stack used again
//   cancels    waits(i): the thread is cancelled inside; ends(i): pthread_exit inside; both with clean-up handlers
//   noreturn   exits(i): _exit inside, in a child
#include "torture.h"

#include <alloca.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

enum {
	DIVE, DIRECT, FINISH, EVEN, ODD, DISPATCH, ONE, TWO, THREE, GROWS, PAGES, RAISES, HANDLED, TICKS, FALLS, STEPS, WAITS,
	ENDS, ENDS_BY_JUMP, EXITS, JUMPS_AWAY, FUNCTIONS
};
static const char *const names[FUNCTIONS] = {
	"dive", "direct", "finish", "even", "odd", "dispatch", "one", "two", "three", "grows", "pages", "raises", "handled",
	"ticks", "falls", "steps", "waits", "ends", "ends_by_jump", "exits",
	"jumps_away",
};

static __thread sigjmp_buf landing;

// -- jumps

TRACED long dive(long depth, long jumps)
{
	long below = 0;

	entered(DIVE);
	if (depth == 0 && jumps)
		longjmp(landing, 1);
	if (depth > 0)
		below = dive(depth - 1, jumps);
	OPAQUE(below);
	left(DIVE);
	return below + 1;
}

static void *jumps(void *argument)
{
	volatile long i;

	for (i = 0; i < rounds; i++) {
		if (setjmp(landing) == 0) {
			check((uint64_t)dive(8, i % 2), 9);
		} else {
			survived();
		}
	}
	return argument;
}

static void in_threads(void *(*work)(void *))
{
	pthread_t handles[64];

	for (int i = 0; i < threads; i++)
		if (pthread_create(&handles[i], NULL, work, (void *)(intptr_t)i) != 0)
			fails("pthread_create");
	for (int i = 0; i < threads; i++)
		pthread_join(handles[i], NULL);
}

// -- tails

TRACED long finish(long i)
{
	entered(FINISH);
	OPAQUE(i);
	return i + 1;
}

TRACED long direct(long i)
{
	entered(DIRECT);
	return finish(i * 2);
}

TRACED long odd(long n, long sum);

TRACED long even(long n, long sum)
{
	entered(EVEN);
	if (n == 0)
		return sum;
	return odd(n - 1, sum + n);
}

TRACED long odd(long n, long sum)
{
	entered(ODD);
	if (n == 0)
		return sum;
	return even(n - 1, sum + n);
}

TRACED long one(long i)
{
	entered(ONE);
	return i + 1;
}

TRACED long two(long i)
{
	entered(TWO);
	return i + 2;
}

TRACED long three(long i)
{
	entered(THREE);
	return i + 3;
}

TRACED long dispatch(long i)
{
	entered(DISPATCH);
	if (i % 3 == 0)
		return one(i);
	if (i % 3 == 1)
		return two(i);
	return three(i);
}

static void tails(void)
{
	for (long i = 0; i < rounds; i++) {
		check((uint64_t)direct(i), (uint64_t)(2 * i + 1));
		check((uint64_t)even(100, i), (uint64_t)(5050 + i));
		check((uint64_t)dispatch(i), (uint64_t)(i + 1 + i % 3));
		// One RET ends a chain of jumps, and takes with it one call of each function in it
		left(DIRECT), left(FINISH), left(EVEN), left(ODD), left(DISPATCH), left(ONE + (int)(i % 3));
		add(&shared->survived, 102);
	}
}

// -- frames

TRACED long grows(long size)
{
	unsigned char *room = alloca((size_t)size + 1), more[size % 1021 + 1];
	long sum = 0;

	entered(GROWS);
	memset(room, 1, (size_t)size);
	memset(more, 1, sizeof more);
	OPAQUE(room);
	for (long i = 0; i < size; i++)
		sum += room[i];
	for (size_t i = 0; i < sizeof more; i++)
		sum += more[i];
	left(GROWS);
	return sum;
}

TRACED long pages(long i)
{
	volatile unsigned char frame[65536];
	long sum = 0;

	entered(PAGES);
	for (size_t at = 0; at < sizeof frame; at += 4096)
		frame[at] = (unsigned char)(i + (long)(at >> 12));
	for (size_t at = 0; at < sizeof frame; at += 4096)
		sum += frame[at];
	left(PAGES);
	return sum;
}

static void *frames(void *argument)
{
	for (long i = 0; i < rounds; i++) {
		long size = i * 37 % 30011, sum = 0;

		check((uint64_t)grows(size), (uint64_t)(size + size % 1021 + 1));
		for (long page = 0; page < 16; page++)
			sum += (unsigned char)(i + page);
		check((uint64_t)pages(i), (uint64_t)sum);
		add(&shared->survived, 2);
	}
	return argument;
}

// -- signals

static void alternate_stack(void)
{
	stack_t stack = {.ss_size = 1 << 16};

	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) != 0)
		fails("sigaltstack");
}

static void handles(int number, void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action;

	memset(&action, 0, sizeof action);
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	if (sigaction(number, &action, NULL) != 0)
		fails("sigaction");
}

static __thread volatile long raised;

TRACED long handled(long i)
{
	entered(HANDLED);
	OPAQUE(i);
	left(HANDLED);
	return i + 7;
}

TRACED long ticks(long i)
{
	entered(TICKS);
	OPAQUE(i);
	left(TICKS);
	return i + 5;
}

TRACED long raises(long i)
{
	long got;

	entered(RAISES);
	pthread_kill(pthread_self(), SIGUSR1);
	got = raised;
	left(RAISES);
	return got + i;
}

static void on_raise(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
	raised = handled(raised);
	survived();
	if (raised % 3 == 0)
		siglongjmp(landing, 1);
}

static void on_tick(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
	check((uint64_t)ticks(number), (uint64_t)number + 5);
	survived();
}

static void *signals(void *argument)
{
	volatile long i;

	alternate_stack();
	for (i = 0; i < rounds; i++) {
		raised = i;
		if (sigsetjmp(landing, 1) == 0)
			check((uint64_t)raises(i), (uint64_t)(2 * i + 7));
		else
			check((uint64_t)raised, (uint64_t)i + 7);
	}
	return argument;
}

static void run_signals(void)
{
	struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};

	handles(SIGUSR1, on_raise);
	handles(SIGALRM, on_tick);
	alternate_stack();
	setitimer(ITIMER_REAL, &often, NULL);
	in_threads(signals);
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
}

// -- overflow

static volatile long deepest = LONG_MAX;

TRACED long falls(long depth)
{
	volatile char frame[512];

	frame[0] = (char)depth;
	if (depth == deepest)
		return 0;
	entered(FALLS); // the next one: what faults may be its first instruction
	return falls(depth + 1) + frame[0];
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)number, (void)info, (void)context;
#ifdef __x86_64__ // or the call itself, which has no room for the return address
	const ucontext_t *at = (const ucontext_t *)context;

	if (*(const unsigned char *)at->uc_mcontext.gregs[REG_RIP] == 0xe8)
		add(&shared->calls[FALLS], (uint64_t)-1);
#endif
	survived();
	siglongjmp(landing, 1);
}

static void *overflow(void *argument)
{
	volatile long i;

	alternate_stack();
	for (i = 0; i < rounds; i++)
		if (sigsetjmp(landing, 1) == 0) {
			entered(FALLS);
			falls(0);
		}
	return argument;
}

static void run_overflow(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	handles(SIGSEGV, on_fault);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 1 << 17);
	if (pthread_create(&thread, &attributes, overflow, NULL) != 0)
		fails("pthread_create");
	pthread_join(thread, NULL);
}

// -- contexts

enum { CONTEXTS = 97, STACK = 1 << 15 };

static ucontext_t scheduler[2], contexts[CONTEXTS];
static char *stacks[CONTEXTS];
static long number_of[CONTEXTS];
static int current[2], where[CONTEXTS];

TRACED long steps(long i)
{
	int own = (int)(i % CONTEXTS);

	entered(STEPS);
	swapcontext(&contexts[own], &scheduler[where[own]]);
	survived();
	left(STEPS);
	return i + 11;
}

// In the only tail call of a function that ends in an indirect jump no RET is proven
typedef long (*Step)(long);
static Step volatile next_step = steps;

TRACED long jumps_away(long i)
{
	entered(JUMPS_AWAY);
	return next_step(i);
}

static void context_main(int own)
{
	for (;;) {
		long i = number_of[own];

		check((uint64_t)jumps_away(i), (uint64_t)i + 11);
		left(JUMPS_AWAY);
		number_of[own] += CONTEXTS;
		swapcontext(&contexts[own], &scheduler[where[own]]);
	}
}

static void begin_context(int own)
{
	getcontext(&contexts[own]);
	contexts[own].uc_stack.ss_sp = stacks[own];
	contexts[own].uc_stack.ss_size = STACK;
	contexts[own].uc_link = NULL;
	makecontext(&contexts[own], (void (*)(void))context_main, 1, own);
}

static pthread_barrier_t barrier;

// Two threads take turns: what one began the other goes on with
static void *schedules(void *argument)
{
	int me = (int)(intptr_t)argument;

	for (long i = 0; i < rounds; i++) {
		if (i % 2 == me) {
			for (int at = 0; at < CONTEXTS; at++) {
				int own = (int)((at * 31 + i * 7) % CONTEXTS);

				where[own] = me;
				current[me] = own;
				swapcontext(&scheduler[me], &contexts[own]);
				if ((at + i) % 10 == 9)
					begin_context(own); // the call in progress is forgotten
			}
		}
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

static void run_contexts(void)
{
	pthread_t handles[2];

	pthread_barrier_init(&barrier, NULL, 2);
	for (int own = 0; own < CONTEXTS; own++) {
		stacks[own] = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		number_of[own] = own;
		begin_context(own);
	}
	for (int i = 0; i < 2; i++)
		if (pthread_create(&handles[i], NULL, schedules, (void *)(intptr_t)i) != 0)
			fails("pthread_create");
	for (int i = 0; i < 2; i++)
		pthread_join(handles[i], NULL);
}

// -- cancels

static void cleans(void *argument)
{
	check((uint64_t)(intptr_t)argument, (uint64_t)(intptr_t)argument);
	survived();
}

static pthread_barrier_t inside;

TRACED long waits(long i)
{
	entered(WAITS);
	pthread_cleanup_push(cleans, (void *)(intptr_t)i);
	pthread_barrier_wait(&inside);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return i;
}

TRACED long ends(long i)
{
	entered(ENDS);
	pthread_cleanup_push(cleans, (void *)(intptr_t)i);
	if (i >= 0)
		pthread_exit((void *)(intptr_t)i);
	pthread_cleanup_pop(0);
	return i;
}

static Step volatile next_end = ends;

TRACED long ends_by_jump(long i)
{
	entered(ENDS_BY_JUMP);
	return next_end(i);
}

static void *cancelled(void *argument)
{
	return (void *)waits((long)(intptr_t)argument);
}

static void *ended(void *argument)
{
	return (void *)ends_by_jump((long)(intptr_t)argument);
}

static void cancels(void)
{
	pthread_barrier_init(&inside, NULL, 2);
	for (long i = 0; i < rounds; i++) {
		pthread_t one, other;
		void *result;

		if (pthread_create(&one, NULL, cancelled, (void *)i) || pthread_create(&other, NULL, ended, (void *)i))
			fails("pthread_create");
		pthread_barrier_wait(&inside);
		pthread_cancel(one);
		pthread_join(one, &result);
		check(result == PTHREAD_CANCELED, 1);
		pthread_join(other, &result);
		check((uint64_t)(intptr_t)result, (uint64_t)i);
	}
}

// -- noreturn

TRACED long exits(long status)
{
	entered(EXITS);
	if (status >= 0)
		_exit((int)status);
	return status;
}

static void noreturn(void)
{
	for (long i = 0; i < rounds; i++) {
		int status = 0;
		pid_t child = fork();

		if (child == 0)
			exits(i % 100);
		if (child < 0 || waitpid(child, &status, 0) < 0)
			fails("fork");
		check((uint64_t)status, (uint64_t)(i % 100 << 8));
		survived();
	}
}

int main(int argc, char **argv)
{
	begins(argc, argv, names, FUNCTIONS);
	if (strcmp(kind, "jumps") == 0)
		in_threads(jumps);
	else if (strcmp(kind, "tails") == 0)
		tails();
	else if (strcmp(kind, "frames") == 0)
		in_threads(frames);
	else if (strcmp(kind, "signals") == 0)
		run_signals();
	else if (strcmp(kind, "overflow") == 0)
		run_overflow();
	else if (strcmp(kind, "contexts") == 0)
		run_contexts();
	else if (strcmp(kind, "cancels") == 0)
		cancels();
	else if (strcmp(kind, "noreturn") == 0)
		noreturn();
	else
		return 2;
	tells();
	return 0;
}

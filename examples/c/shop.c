// SPDX-License-Identifier: BSD-2-Clause
// A worker that handles orders, to be traced: shop [SECONDS] [ORDERS]
//
//   price_of       hot: called for every item of every order, takes nanoseconds
//   charge_card    waits for the bank: some 200 us, but one in 53 takes 20 ms: the slow tail
//   plan_route     recursive: it calls itself for every leg of a delivery
//   handle_order   the whole of it
//
// It prints its pid when it starts and how often it called what when it ends: after SECONDS or ORDERS (0: for ever),
// at Ctrl-C or SIGTERM.
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifdef __clang__
#define TRACED __attribute__((noinline))
#else
#define TRACED __attribute__((noipa)) // no inlining, no copies made for one caller
#endif

enum { ITEMS = 101, LEGS = 5 };

static volatile sig_atomic_t stopped;

static uint64_t orders, prices, charges, slow_charges, legs;

static void stop(int signal_number)
{
	(void)signal_number;
	stopped = 1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void wait_us(long us)
{
	struct timespec t = { us / 1000000, us % 1000000 * 1000 };

	nanosleep(&t, NULL);
}

TRACED int price_of(int item)
{
	prices++;
	return 100 + item * 7 % 900;
}

// Returns 0, or -EAGAIN where the bank was slow
TRACED int charge_card(const char *customer, int cents)
{
	(void)customer;
	(void)cents;
	charges++;
	if (charges % 53 == 0) {
		slow_charges++;
		wait_us(20000);
		return -EAGAIN;
	}
	wait_us(50 + (long)(charges * 7919 % 150));
	return 0;
}

TRACED int plan_route(int left)
{
	int rest = 0;

	legs++;
	wait_us(100);
	if (left > 0)
		rest = plan_route(left - 1);
	__asm__ volatile("" : "+r"(rest)); // something to do after the call, or the compiler makes it a loop
	return rest + 1;
}

TRACED int handle_order(int number)
{
	static const char *const customers[] = { "ada", "grace", "linus" };
	int cents = 0;

	orders++;
	for (int item = 0; item < ITEMS; item++)
		cents += price_of(number + item);
	if (number % 5 == 0)
		plan_route(LEGS - 1);
	return charge_card(customers[number % 3], cents);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 0;
	long most = argc > 2 ? atol(argv[2]) : 0;
	struct sigaction action = { .sa_handler = stop };
	double start = now();

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	printf("shop: pid %d\n", (int)getpid());
	fflush(stdout);

	for (int number = 0; !stopped; number++) {
		if ((seconds > 0 && now() - start >= seconds) || (most > 0 && number >= most))
			break;
		handle_order(number);
		wait_us(500);
	}

	printf("handle_order %llu\n", (unsigned long long)orders);
	printf("price_of     %llu\n", (unsigned long long)prices);
	printf("charge_card  %llu, of which slow %llu\n", (unsigned long long)charges, (unsigned long long)slow_charges);
	printf("plan_route   %llu\n", (unsigned long long)legs);
	return 0;
}

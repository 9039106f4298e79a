// SPDX-License-Identifier: BSD-2-Clause
// Calls functions of every kind of signature C has, three times each with other values, and tells them: signatures
//
//   gcc -g -O0 -Wall -o signatures signatures.c        also: -O2, clang, -gdwarf-4, -gdwarf-5
#include <stdbool.h>

#include "values.h"

#define FLOAT "{'$float': %g}" // in a vector register

// A call's value must not be known to the compiler, and what is behind a pointer must be in memory
#define USE(value) __asm__ volatile("" : : "r"(&(value)) : "memory")

enum colour { RED, GREEN = 5, BLUE = 0x7fffffff };
enum direction { BACK = -1, STAY, FORTH };
typedef uint32_t identifier;

struct tiny { int8_t a; };
struct small { int32_t x, y; };
struct pair { int64_t first; uint32_t second; bool third; };
struct mixed { int32_t n; double value; };
struct swapped { double value; int64_t n; };
struct large { int64_t a; char name[12]; int32_t numbers[4]; double ratio; };

struct place { const char *street; uint16_t number; };
struct person { identifier id; const char *name; struct place home; struct person *next; enum colour likes; };

struct flags {
	unsigned int low : 3;
	int middle : 5; // signed
	unsigned int : 4;
	bool set : 1;
	unsigned long long wide : 40;
};

union either { int64_t number; float ratio; uint8_t bytes[8]; };

struct anonymous {
	int32_t kind;
	union {
		int32_t number;
		uint8_t first;
	};
	struct { int16_t left, right; };
};

#define INTEGERS(name, type) \
	TRACED type name(type a, type b) { USE(a); USE(b); return (type)(a - b); }
INTEGERS(int8s, int8_t)
INTEGERS(int16s, int16_t)
INTEGERS(int32s, int32_t)
INTEGERS(int64s, int64_t)
INTEGERS(uint8s, uint8_t)
INTEGERS(uint16s, uint16_t)
INTEGERS(uint32s, uint32_t)
INTEGERS(uint64s, uint64_t)

TRACED bool bools(bool a, bool b) { USE(a); USE(b); return a != b; }
TRACED char chars(char a, unsigned char b, signed char c) { USE(a); USE(b); USE(c); return a; }
TRACED enum direction enums(enum colour c, enum direction d) { USE(c); USE(d); return d; }
TRACED const char *text(const char *s, char *t, size_t n) { USE(s); USE(t); USE(n); return s + 1; }
TRACED int64_t nine(int64_t a, int32_t b, int16_t c, int8_t d, uint64_t e, uint32_t f, int64_t g, int32_t h,
	uint8_t i)
{
	USE(a); USE(b); USE(c); USE(d); USE(e); USE(f); USE(g); USE(h); USE(i);
	return a + g + h + i;
}
TRACED identifier pointers(const struct person *p, struct person **q,
	void *r) { USE(p); USE(q); USE(r); return p->id; }
TRACED int tiny_struct(struct tiny s, int n) { USE(s); USE(n); return s.a + n; }
TRACED int small_struct(struct small s, int n) { USE(s); USE(n); return s.x + s.y + n; }
TRACED int64_t pair_struct(struct pair s, int n) { USE(s); USE(n); return s.first + n; }
TRACED int32_t mixed_struct(struct mixed s, int n) { USE(s); USE(n); return s.n + n; }
TRACED int64_t swapped_struct(int n, struct swapped s, int m) { USE(n); USE(s); USE(m); return s.n + m; }
TRACED int64_t large_struct(int n, struct large s, int m) { USE(n); USE(s); USE(m); return s.a + m; }
TRACED int spilled_struct(int a, int b, int c, int d, int e, struct pair s, int f)
{
	USE(a); USE(b); USE(c); USE(d); USE(e); USE(s); USE(f);
	return f;
}
TRACED int large_pointer(struct large *s) { USE(s); s->numbers[1]++; return s->numbers[1]; }
TRACED unsigned bit_fields(struct flags *f, struct flags g) { USE(f); USE(g); return f->low; }
TRACED int64_t unions(union either *u, union either v) { USE(u); USE(v); return v.number; }
TRACED int anonymous_members(struct anonymous *a) { USE(a); return a->number; }
TRACED double floats(int a, double f, int b, float g, const char *s)
{
	USE(a); USE(f); USE(b); USE(g); USE(s);
	return f + (double)g;
}
TRACED double spilled_floats(double a, double b, double c, double d, double e, double f, double g, double h, double i,
			     float j, int n)
{
	USE(a); USE(b); USE(c); USE(d); USE(e); USE(f); USE(g); USE(h); USE(i); USE(j); USE(n);
	return a;
}
TRACED int long_doubles(long double f, int n) { USE(f); USE(n); return n; }
TRACED int callbacks(int (*call)(bool, int), int n) { USE(call); USE(n); return n; }
TRACED int variadic(const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = va_arg(arguments, int);
	va_end(arguments);
	USE(format);
	return n;
}
TRACED struct small gives_small(int a, int b) { struct small s = {a, b}; USE(s); return s; }
TRACED struct pair gives_pair(int64_t a, uint32_t b) { struct pair s = {a, b, true}; USE(s); return s; }
TRACED struct large gives_large(int64_t a, int b)
{
	struct large s = {.a = a, .name = "large", .numbers = {b, 2, 3, -4}, .ratio = 0.5};
	USE(s);
	return s;
}
TRACED void fills(struct person *out, identifier id) { USE(out); USE(id); out->id = id; out->name = "filled"; }

static int chosen(bool a, int b)
{
	return a ? b : 0;
}

#define SAY_INTEGERS(name, type, first, second, format) do { \
	type a_ = (type)(first), b_ = (type)(second); \
	entry(#name, "'a': " format ", 'b': " format, a_, b_); \
	result("'retval': " format, name(a_, b_)); \
} while (0)

static void integers(int i)
{
	SAY_INTEGERS(int8s, int8_t, -100 + i, 20 * i, "%d");
	SAY_INTEGERS(int16s, int16_t, -30000 + i, -i, "%d");
	SAY_INTEGERS(int32s, int32_t, -2000000000 + i, i, "%d");
	SAY_INTEGERS(int64s, int64_t, -9000000000000000000 + i, 3000000000 * i, "%" PRId64);
	SAY_INTEGERS(uint8s, uint8_t, 200 + i, 100 * i, "%u");
	SAY_INTEGERS(uint16s, uint16_t, 60000 + i, 100 * i, "%u");
	SAY_INTEGERS(uint32s, uint32_t, 4000000000 + (unsigned)i, 100 * i, "%u");
	SAY_INTEGERS(uint64s, uint64_t, 18000000000000000000u + (unsigned)i, 100 * i, "%" PRIu64);
}

static const char *truth_value(bool b)
{
	return b ? "true" : "false";
}

static void scalars(int i)
{
	static const struct { enum colour value; const char *name; } colours[] = {{RED, "RED"}, {GREEN, "GREEN"}, {BLUE,
		"BLUE"}};
	static const struct { enum direction value; const char *name; } directions[] = {{BACK, "BACK"}, {FORTH, "FORTH"},
		{STAY, "STAY"}};
	static char texts[3][40] = {"one", "", "three words here"};
	const bool a = i != 1, b = i == 2;

	entry("bools", "'a': %s, 'b': %s", truth_value(a), truth_value(b));
	result("'retval': %s", truth_value(bools(a, b)));
	entry("chars", "'a': {'$char': '%c'}, 'b': {'$char': '%c'}, 'c': {'$char': '%c'}", 'a' + i, 'B', 'x');
	result("'retval': {'$char': '%c'}", chars((char)('a' + i), 'B', 'x'));
	entry("enums", "'c': {'$enum': '%s', '$value': %d}, 'd': {'$enum': '%s', '$value': %d}", colours[i].name,
		(int)colours[i].value,
	      directions[i].name, (int)directions[i].value);
	enums(colours[i].value, directions[i].value);
	result("'retval': {'$enum': '%s', '$value': %d}", directions[i].name, (int)directions[i].value);
	entry("text", "'s': 'x%s', 't': '%s', 'n': %d", texts[i], texts[2 - i], i);
	{
		char s[64];

		snprintf(s, sizeof s, "x%s", texts[i]);
		result("'retval': '%s'", text(s, texts[2 - i], (size_t)i));
	}
	entry("nine", "'a': %d, 'b': -2, 'c': -3, 'd': -4, 'e': 5, 'f': 6, 'g': %d, 'h': -8, 'i': %d", i, -7 - i, 200 + i);
	result("'retval': %d", (int)nine(i, -2, -3, -4, 5, 6, -7 - i, -8, (uint8_t)(200 + i)));
	entry("callbacks", "'call': {'$pointer': %" PRIuPTR "}, 'n': %d", (uintptr_t)chosen, i);
	result("'retval': %d", callbacks(chosen, i));
	entry("variadic", "'format': 'format %d'", i);
	{
		char format[32];

		snprintf(format, sizeof format, "format %d", i);
		result("'retval': %d", variadic(format, 40 + i));
	}
}

static void floating(int i)
{
	entry("floats", "'a': %d, 'f': " FLOAT ", 'b': %d, 'g': " FLOAT ", 's': 'after'", i, 1.5 + i, -20 - i, 0.25);
	result("'retval': " FLOAT, floats(i, 1.5 + i, -20 - i, 0.25f, "after"));
	entry("spilled_floats", "'a': " FLOAT ", 'h': " FLOAT ", 'i': %g, 'j': %g, 'n': %d", 1.0, 8.0, 9.25 + i, -0.5, i);
	result("'retval': " FLOAT, spilled_floats(1, 2, 3, 4, 5, 6, 7, 8, 9.25 + i, -0.5f, i));
	entry("long_doubles", "'n': %d", i);
	result("'retval': %d", long_doubles(2.5L, i));
}

static void structures(int i)
{
	struct tiny tiny = {(int8_t)(-100 - i)};
	struct small small = {i, -1000 - i};
	struct pair pair = {-5000000000 - i, 4000000000u + (unsigned)i, i == 1};
	struct mixed mixed = {-i, 2.5};
	struct swapped swapped = {0.5, 7 + i};
	struct large large = {-6000000000 - i, "large", {i, 20, -30, 40}, 0.125 + i};

	entry("tiny_struct", "'s.a': %d, 'n': %d", tiny.a, i);
	result("'retval': %d", tiny_struct(tiny, i));
	entry("small_struct", "'s.x': %d, 's.y': %d, 's': {'x': %d, 'y': %d}, 'n': %d", small.x, small.y, small.x, small.y,
		i);
	result("'retval': %d", small_struct(small, i));
	entry("pair_struct", "'s.first': %" PRId64 ", 's.second': %u, 's.third': %s, 'n': %d", pair.first, pair.second,
	      truth_value(pair.third), i);
	result("'retval': %" PRId64, pair_struct(pair, i));
	entry("mixed_struct", "'s.n': %d, 's.value': " FLOAT ", 'n': %d", mixed.n, mixed.value, i);
	result("'retval': %d", mixed_struct(mixed, i));
	entry("swapped_struct", "'n': %d, 's.n': %d, 's.value': " FLOAT ", 'm': %d", 3 + i, 7 + i, swapped.value, 5 + i);
	result("'retval': %d", (int)swapped_struct(3 + i, swapped, 5 + i));
	entry("large_struct", "'n': %d, 's.a': %" PRId64 ", 's.name': 'large', 's.numbers[0]': %d, 's.numbers[2]': -30, "
		"'s.ratio': %g, 'm': %d",
	      60 + i, large.a, i, large.ratio, 70 + i);
	result("'retval': %" PRId64, large_struct(60 + i, large, 70 + i));
	entry("spilled_struct", "'a': 1, 'e': 5, 's.first': %" PRId64 ", 's.second': %u, 'f': %d", pair.first, pair.second,
		i);
	result("'retval': %d", spilled_struct(1, 2, 3, 4, 5, pair, i));
	entry("large_pointer", "'s->a': %" PRId64 ", 's.name': 'large', 's.numbers[1]': 20, 's.numbers[3]': 40, "
		"'s.ratio': %g", large.a, large.ratio);
	const int number = large_pointer(&large);
	result("'retval': %d, 's.numbers[1]': %d", number, large.numbers[1]);
}

static void results(int i)
{
	struct small small = gives_small(i, -i);
	struct pair pair;
	struct large large;

	entry("gives_small", "'a': %d, 'b': %d", i, -i);
	result("'retval.x': %d, 'retval.y': %d", small.x, small.y);
	entry("gives_pair", "'a': %d, 'b': %d", -i, 10 + i);
	pair = gives_pair(-i, (uint32_t)(10 + i));
	result("'retval.first': %" PRId64 ", 'retval.second': %u, 'retval.third': true", pair.first, pair.second);
	entry("gives_large", "'a': %d, 'b': %d", -i, 20 + i);
	large = gives_large(-i, 20 + i);
	result("'retval.a': %" PRId64 ", 'retval.name': 'large', 'retval.numbers[0]': %d, 'retval.numbers[3]': -4, "
		"'retval.ratio': %g",
	       large.a, large.numbers[0], large.ratio);
}

static void memory(int i)
{
	static const char *const names[] = {"RED", "GREEN", "BLUE"};
	static const enum colour colours[] = {RED, GREEN, BLUE};
	struct person second = {20 + (unsigned)i, "second", {"Side St", 2}, NULL, GREEN};
	struct person first = {10 + (unsigned)i, "first", {"Main St", (uint16_t)(65000 + i)}, &second, colours[i]},
		*handle = &first;
	struct flags flags = {.low = (unsigned)i + 5, .middle = -3 - i, .set = i == 1, .wide = 0xfedcba9876 + (unsigned)i};
	union either number = {.number = -1 - i}, ratio = {.ratio = 0.5f};
	struct anonymous anonymous = {.kind = i, .number = 258 + i, .left = (int16_t)-i, .right = 300};
	struct person out = {0};

	entry("pointers", "'p': {'$pointer': %" PRIuPTR "}, 'p->id': %u, 'p.name': 'first', 'p->home.street': 'Main St', "
		"'p.home.number': %d, "
	      "'p->next->name': 'second', 'p.next.next': {'$pointer': 0}, 'p.likes': {'$enum': '%s', '$value': %d}, "
	      	"'(*q)->id': %u, 'r': {'$pointer': %" PRIuPTR "}",
	      (uintptr_t)&first, first.id, first.home.number, names[i], (int)colours[i], first.id, (uintptr_t)&flags);
	result("'retval': %u, 'p.id': %u", pointers(&first, &handle, &flags), first.id);
	entry("bit_fields", "'f.low': %u, 'f.middle': %d, 'f.set': %s, 'f.wide': %" PRIu64 ", 'g.low': %u, 'g.middle': %d",
		flags.low,
	      flags.middle, truth_value(flags.set), (uint64_t)flags.wide, flags.low, flags.middle);
	result("'retval': %u", bit_fields(&flags, flags));
	entry("unions", "'u->ratio': 0.5, 'u.bytes[3]': 63, 'v.number': %" PRId64 ", 'v.bytes[0]': %u", number.number,
		number.bytes[0]);
	result("'retval': %" PRId64, unions(&ratio, number));
	entry("anonymous_members", "'a->kind': %d, 'a->number': %d, 'a.first': %u, 'a.left': %d, 'a.right': 300", i,
		anonymous.number,
	      anonymous.first, anonymous.left);
	result("'retval': %d", anonymous_members(&anonymous));
	entry("fills", "'out->id': 0, 'id': %d", 90 + i);
	fills(&out, 90 + (unsigned)i);
	result("'out->id': %u, 'out->name': '%s'", out.id, out.name);
}

int main(void)
{
	ready("signatures");
	for (int i = 0; i < 3; i++) {
		integers(i);
		scalars(i);
		floating(i);
		structures(i);
		results(i);
		memory(i);
	}
	print_told("signatures");
	return 0;
}

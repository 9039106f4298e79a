// SPDX-License-Identifier: BSD-2-Clause
// What a program of signatures tells of its calls, as go/signatures/main.go describes: the key "values" of the truth.
//
//   entry("area", "'width': %d, 'height': %d", width, height);       ' stands for "
//   result("'retval': %d", area(width, height));
//
// Every call of the function has an entry and, after it, a result.
#pragma once

#include <stdarg.h>

#include "truth.h"

struct Told {
	const char *function;
	char text[4000];
	size_t used;
};

static struct Told told[64];
static struct Told *last_told;

__attribute__((format(printf, 1, 0))) static inline void tell(const char *format, va_list arguments)
{
	char *start = last_told->text + last_told->used;

	last_told->used += (size_t)vsnprintf(start, sizeof last_told->text - last_told->used, format, arguments);
	for (; *start; start++)
		if (*start == '\'')
			*start = '"';
}

__attribute__((format(printf, 1, 2))) static inline void tells(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	tell(format, arguments);
	va_end(arguments);
}

__attribute__((format(printf, 2, 3))) static inline void entry(const char *function, const char *format, ...)
{
	va_list arguments;

	for (last_told = told; last_told->function && strcmp(last_told->function, function) != 0; last_told++)
		;
	last_told->function = function;
	tells("%s{'entry': {", last_told->used ? ", " : "");
	va_start(arguments, format);
	tell(format, arguments);
	va_end(arguments);
	tells("}, ");
}

__attribute__((format(printf, 1, 2))) static inline void result(const char *format, ...)
{
	va_list arguments;

	tells("'return': {");
	va_start(arguments, format);
	tell(format, arguments);
	va_end(arguments);
	tells("}}");
}

static inline void print_told(const char *program)
{
	begin_truth(program);
	printf(", \"values\": {");
	for (last_told = told; last_told->function; last_told++)
		printf("%s\"%s\": [%s]", last_told == told ? "" : ", ", last_told->function, last_told->text);
	printf("}");
	end_truth();
}

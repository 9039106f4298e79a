// SPDX-License-Identifier: BSD-2-Clause
// Has functions called like OpenSSL's that say what isn't so: liar COUNT
#include <stdlib.h>

#include "truth.h"

TRACED int SSL_read(void *ssl, void *data, int size)
{
	OPAQUE(data);
	return 0x7fffffff;
}

TRACED int SSL_write_ex(void *ssl, const void *data, size_t size, size_t *written)
{
	OPAQUE(data);
	return 1;
}

TRACED int SSL_write(void *ssl, const void *data, int size)
{
	OPAQUE(data);
	return size;
}

int main(int argc, char **argv)
{
	static const char text[] = "\033]0;owned\007\302\233 \xff";
	size_t huge = ~(size_t)0;

	ready("liar");
	for (int i = 0; i < atoi(argv[1]); i++) {
		SSL_read(NULL, (void *)8, 100);            // no such memory
		SSL_write_ex(NULL, text, 5, (size_t *)16); // nor for the number
		SSL_write_ex(NULL, text, 5, &huge);        // less than nothing
		SSL_write(NULL, text, -1);
		SSL_write(NULL, text, sizeof text - 1);
	}
	begin_truth("liar");
	end_truth();
	return 0;
}

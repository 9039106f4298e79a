/* SPDX-License-Identifier: BSD-2-Clause */
/* The program that workloads/events.c starts: linked statically, so that starting it opens no files. */
int main(void)
{
	return 0;
}

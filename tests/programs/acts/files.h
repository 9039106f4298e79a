// SPDX-License-Identifier: BSD-2-Clause
// Acts on files, mounts and memory segments. Raw system calls, so that the one asked for is the one made.
#pragma once

#include <linux/openat2.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "core.h"

// open HOW PATH FLAGS MODE DIRFD: open, creat, openat, openat2; ret stays open
static void act_open(struct Act *act)
{
	const char *path = path_word(act, 1);
	int flags = (int)number(act, 2), mode = (int)number(act, 3), from = (int)number(act, 4);
	struct open_how how = { .flags = (uint64_t)flags, .mode = flags & (O_CREAT | __O_TMPFILE) ? (uint64_t)mode : 0 };

	if (is(act, 0, "openat"))
		CALL(act, syscall(SYS_openat, from, path, flags, mode));
	else if (is(act, 0, "openat2"))
		CALL(act, syscall(SYS_openat2, from, path, &how, sizeof how));
#ifdef SYS_open
	else if (is(act, 0, "open"))
		CALL(act, syscall(SYS_open, path, flags, mode));
	else if (is(act, 0, "creat"))
		CALL(act, syscall(SYS_creat, path, mode));
#endif
	else
		wrong("no such way to open: %s", word(act, 0));
}

// stat HOW PATH DIRFD: stat, lstat, newfstatat, statx, statfs, access, readlink
static void act_stat(struct Act *act)
{
	static __thread union { struct stat stat; struct statx statx; struct statfs statfs; char bytes[PAGE]; } room;
	const char *path = path_word(act, 1);
	int from = (int)number(act, 2);

	if (is(act, 0, "newfstatat"))
		CALL(act, syscall(SYS_newfstatat, from, path, &room, 0));
	else if (is(act, 0, "statx"))
		CALL(act, syscall(SYS_statx, from, path, 0, STATX_BASIC_STATS, &room));
	else if (is(act, 0, "statfs"))
		CALL(act, syscall(SYS_statfs, path, &room));
#ifdef SYS_stat
	else if (is(act, 0, "stat"))
		CALL(act, syscall(SYS_stat, path, &room));
	else if (is(act, 0, "lstat"))
		CALL(act, syscall(SYS_lstat, path, &room));
#endif
	else
		wrong("no such way to stat: %s", word(act, 0));
}

// name HOW PATH [PATH]: unlink, unlinkat, rmdir, mkdir, rename, renameat, renameat2, link, symlink, chdir, chroot
static void act_name(struct Act *act)
{
	const char *path = path_word(act, 1), *to = act->used > 2 ? path_word(act, 2) : "";

	if (is(act, 0, "unlinkat"))
		CALL(act, syscall(SYS_unlinkat, AT_FDCWD, path, 0));
	else if (is(act, 0, "renameat2"))
		CALL(act, syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, to, 0));
	else if (is(act, 0, "chdir"))
		CALL(act, syscall(SYS_chdir, path));
	else if (is(act, 0, "chroot"))
		CALL(act, syscall(SYS_chroot, path));
	else if (is(act, 0, "link"))
		CALL(act, link(path, to));
	else if (is(act, 0, "symlink"))
		CALL(act, symlink(path, to));
	else if (is(act, 0, "mkdir"))
		CALL(act, mkdir(path, 0755));
	else if (is(act, 0, "rmdir"))
		CALL(act, rmdir(path));
#ifdef SYS_unlink
	else if (is(act, 0, "unlink"))
		CALL(act, syscall(SYS_unlink, path));
	else if (is(act, 0, "rename"))
		CALL(act, syscall(SYS_rename, path, to));
#endif
#ifdef SYS_renameat
	else if (is(act, 0, "renameat"))
		CALL(act, syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, to));
#endif
	else
		wrong("no such act on names: %s", word(act, 0));
}

// sync HOW FD: sync, fsync, fdatasync, syncfs, sync_file_range, msync (of a page of that file)
static void act_sync(struct Act *act)
{
	int fd = (int)number(act, 1);

	if (is(act, 0, "sync")) {
		CALL(act, syscall(SYS_sync));
	} else if (is(act, 0, "fsync")) {
		CALL(act, fsync(fd));
	} else if (is(act, 0, "fdatasync")) {
		CALL(act, fdatasync(fd));
	} else if (is(act, 0, "syncfs")) {
		CALL(act, syncfs(fd));
	} else if (is(act, 0, "sync_file_range")) {
		CALL(act, sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	} else if (is(act, 0, "msync")) {
		void *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
		CALL(act, msync(page, PAGE, MS_SYNC));
		munmap(page, PAGE);
	} else {
		wrong("no such way to sync: %s", word(act, 0));
	}
}

// mount HOW WORD...: unshare | mount SOURCE TARGET TYPE FLAGS DATA | umount TARGET FLAGS | fsopen TYPE FLAGS |
// fsconfig FD COMMAND KEY VALUE | fsmount FD FLAGS ATTRIBUTES | move_mount FROM_FD FROM_PATH TO_PATH FLAGS |
// open_tree PATH FLAGS
static void act_mount(struct Act *act)
{
	if (is(act, 0, "unshare")) {
		CALL(act, unshare(CLONE_NEWNS));
		MUST(syscall(SYS_mount, NULL, "/", NULL, 0x4000 | 0x40000, NULL)); // MS_REC | MS_PRIVATE
	} else if (is(act, 0, "mount")) {
		CALL(act, syscall(SYS_mount, word(act, 1), path_word(act, 2), word(act, 3), number(act, 4), word(act, 5)));
	} else if (is(act, 0, "umount")) {
		CALL(act, syscall(SYS_umount2, path_word(act, 1), number(act, 2)));
	} else if (is(act, 0, "fsopen")) {
		CALL(act, syscall(SYS_fsopen, word(act, 1), number(act, 2)));
	} else if (is(act, 0, "fsconfig")) {
		bool has_key = *word(act, 3) != 0;
		CALL(act, syscall(SYS_fsconfig, number(act, 1), number(act, 2), has_key ? word(act, 3) : NULL,
			has_key ? word(act, 4) : NULL, 0));
	} else if (is(act, 0, "fsmount")) {
		CALL(act, syscall(SYS_fsmount, number(act, 1), number(act, 2), number(act, 3)));
	} else if (is(act, 0, "move_mount")) {
		CALL(act, syscall(SYS_move_mount, number(act, 1), word(act, 2), AT_FDCWD, word(act, 3), number(act, 4)));
	} else if (is(act, 0, "open_tree")) {
		CALL(act, syscall(SYS_open_tree, AT_FDCWD, word(act, 1), number(act, 2)));
	} else {
		wrong("no such act on mounts: %s", word(act, 0));
	}
}

// shm HOW NUMBER...: get KEY SIZE FLAGS | at ID ADDRESS FLAGS | dt ADDRESS | ctl ID COMMAND
static void act_shm(struct Act *act)
{
	struct shmid_ds room;

	if (is(act, 0, "get"))
		CALL(act, shmget((key_t)number(act, 1), (size_t)number(act, 2), (int)number(act, 3)));
	else if (is(act, 0, "at"))
		CALL(act, (long)shmat((int)number(act, 1), (void *)number(act, 2), (int)number(act, 3)));
	else if (is(act, 0, "dt"))
		CALL(act, shmdt((void *)number(act, 1)));
	else
		CALL(act, shmctl((int)number(act, 1), (int)number(act, 2), &room));
}

// reads PATH: all of it, through the page cache; ret: bytes
static void act_reads(struct Act *act)
{
	static char room[1 << 20];
	int fd = (int)MUST(open(word(act, 0), O_RDONLY | O_CLOEXEC));
	long total = 0;
	ssize_t done;

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	act->start = now_ns();
	while ((done = read(fd, room, sizeof room)) > 0)
		total += done;
	act->end = now_ns();
	act->ret = total;
	close(fd);
}

#define FILE_ACTS \
	{ "open", act_open }, { "stat", act_stat }, { "name", act_name }, { "sync", act_sync }, { "mount", act_mount }, \
	{ "shm", act_shm }, { "reads", act_reads },

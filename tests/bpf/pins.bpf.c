// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* A map that is kept in a BPF file system, by its name. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} kept SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int on_call(void *ctx)
{
	u64 *there = bpf_map_lookup_elem(&kept, &(u32){ 0 });

	if (there)
		__sync_fetch_and_add(there, 1);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

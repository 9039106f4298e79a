// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Every kind of map and variable an embedder may have, and a program each that uses it. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

typedef __u32 u32;
typedef __u64 u64;

enum colour { RED = 3, GREEN = 7 };

struct key {
	u32 pid;
	__u16 port;
	char name[8];
};

struct flags {
	u32 small : 3;
	int negative : 5;
	u64 wide : 40;
	_Bool yes : 1;
	enum colour colour : 8;
	u32 plain;
};

struct value {
	u64 count;
	struct flags flags;
	union {
		u32 v4;
		unsigned char v6[16];
	};
	union {
		u32 word;
		struct {
			__u16 low, high;
		} half;
	} parts;
	short grid[2][3];
	double ratio;
	__int128 huge;
};

const volatile u32 limit = 5;
const volatile _Bool strict = 0;
const volatile enum colour paint = RED;
const volatile char comm[16] = "";
const volatile struct key only = {};
const volatile u32 table[4] = {};
volatile const u32 own_constant SEC(".rodata.own") = 23;
u64 answer = 42;
int temperature = -3;
u32 numbers[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
struct value one = {};
u64 runs = 0;
u64 own_counter SEC(".data.own") = 7;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 20000);
	__type(key, u32);
	__type(value, u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 128);
	__type(key, struct key);
	__type(value, struct value);
} structs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, u32);
} lru SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 23);
	__type(key, u32);
	__type(value, int);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 3);
	__type(key, u32);
	__type(value, u32);
} percpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 97);
	__type(key, u32);
	__type(value, struct key);
} percpu_hash SEC(".maps");

struct route {
	u32 prefix;
	unsigned char address[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 97);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct route);
	__type(value, u32);
} routes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 5);
	__type(value, u64);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, 5);
	__type(value, struct key);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 7);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, u32);
	__type(value, u64);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} tails SEC(".maps");

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} inner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, u32);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &inner } };

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 97);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 16 * sizeof(u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 11);
	__uint(key_size, 3);
	__uint(value_size, 5);
} untyped SEC(".maps");

/* Run once by BPF_PROG_TEST_RUN: reads and writes a bit of everything. */
SEC("xdp")
int touch(struct xdp_md *packet)
{
	u32 zero = 0, cpu = bpf_get_smp_processor_id();
	u64 *there = bpf_map_lookup_elem(&hash, &(u32){ 997 });
	u32 *mine = bpf_map_lookup_elem(&percpu, &zero);
	u64 *inside;
	void *map;

	__sync_fetch_and_add(&runs, 1);
	own_counter += own_constant;
	if (there)
		*there += limit;
	if (mine)
		*mine += cpu + 1;
	map = bpf_map_lookup_elem(&outer, &(u32){ 1 });
	inside = map ? bpf_map_lookup_elem(map, &zero) : 0;
	if (inside)
		*inside += 23;
	one.flags.small = 5;
	one.flags.negative = -9;
	one.flags.wide = 0xABCDEF0123;
	one.flags.yes = 1;
	one.flags.colour = GREEN;
	one.flags.plain = 10007;
	bpf_map_push_elem(&queue, &answer, 0);
	bpf_tail_call(packet, &tails, 1);
	return XDP_DROP;
}

SEC("xdp")
int landed(struct xdp_md *packet)
{
	return XDP_TX;
}

SEC("tp/syscalls/sys_enter_getpgid")
int walk(void *ctx)
{
	u32 where = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);

	bpf_map_update_elem(&hash, &(u32){ 1 }, &(u64){ where }, BPF_ANY);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpcong: how long connections are in each state of congestion control. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpcong.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/owners.bpf.h"
#include "include/buckets.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* See the anchor in site.bpf.h. */
const enum cong_sizes *unused_cong_sizes __attribute__((unused));

const volatile __u16 first_local_port = 0, last_local_port = 65535;
const volatile __u16 first_remote_port = 0, last_remote_port = 65535;

/* Connections whose beginning was seen, by the address of the struct sock: when that was. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u64);
	__type(value, __u64);
} begun SEC(".maps");

/* Those that changed their state. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct flow);
	__type(value, struct congestion);
} congestions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CA_STATES);
	__type(key, __u32);
	__type(value, struct lasted);
} lasting SEC(".maps");

static __always_inline bool shown(struct sock *sk, struct flow *flow)
{
	return flow_of(sk, flow) && flow_wanted(flow) && flow->local_port >= first_local_port &&
	       flow->local_port <= last_local_port && flow->remote_port >= first_remote_port &&
	       flow->remote_port <= last_remote_port;
}

/* A state has ended. */
static __always_inline void lasted(__u32 state, __u64 duration)
{
	struct lasted *found = bpf_map_lookup_elem(&lasting, &state);

	if (!found)
		return;
	count_into(found->buckets, duration / 1000);
	__sync_fetch_and_add(&found->total, duration / 1000);
}

static __always_inline void spend(struct congestion *congestion, __u8 state, __u64 duration)
{
	switch (state) { /* an index that isn't constant is more than old verifiers take */
	case 0: congestion->durations[0] += duration; break;
	case 1: congestion->durations[1] += duration; break;
	case 2: congestion->durations[2] += duration; break;
	case 3: congestion->durations[3] += duration; break;
	case 4: congestion->durations[4] += duration; break;
	}
}

SEC("raw_tp/tcp_cong_state_set")
int BPF_PROG(on_congestion, struct sock *sk, __u8 new)
{
	__u8 old = BPF_CORE_READ_BITFIELD_PROBED((struct inet_connection_sock *)sk, icsk_ca_state);
	__u64 now = bpf_ktime_get_ns(), key = (__u64)sk, *beginning;
	struct congestion first = {}, *found;
	struct owner *owner = owner_of(sk);
	struct flow flow;

	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE) /* disconnecting: it has no remote end any more */
		return 0;
	if (old == new || old >= CA_STATES || new >= CA_STATES || !owner_wanted(owner) || !shown(sk, &flow))
		return 0;
	found = bpf_map_lookup_elem(&congestions, &flow);
	beginning = bpf_map_lookup_elem(&begun, &key);
	if (!found) {
		if (owner) {
			first.tgid = owner->tgid;
			__builtin_memcpy(first.comm, owner->comm, sizeof(first.comm));
		}
		if (!beginning) {
			first.first = now;
			first.old = old;
		}
		if (bpf_map_update_elem(&congestions, &flow, &first, BPF_NOEXIST)) {
			COUNT_EVENT(untracked);
			return 0;
		}
		found = bpf_map_lookup_elem(&congestions, &flow);
		if (!found)
			return 0;
	}
	if (!found->since && beginning)
		found->since = *beginning;
	if (found->since) {
		spend(found, old, now - found->since);
		lasted(old, now - found->since);
	}
	found->since = now;
	found->state = new;
	found->changes++;
	return 0;
}

SEC("raw_tp/inet_sock_set_state")
int BPF_PROG(on_state, struct sock *sk, int old, int new)
{
	__u64 now = bpf_ktime_get_ns(), key = (__u64)sk;
	struct congestion *found;
	struct flow flow;
	int error; /* before Linux 6.4 not sign-extended to a long */

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	if (new == TCP_SYN_SENT || new == TCP_SYN_RECV || new == TCP_ESTABLISHED) {
		error = bpf_map_update_elem(&begun, &key, &now, BPF_NOEXIST);
		if (error && error != -17) /* EEXIST: it began in the state before */
			COUNT_EVENT(untracked);
		return 0;
	}
	if (new != TCP_CLOSE)
		return 0;
	bpf_map_delete_elem(&begun, &key);
	found = flow_of(sk, &flow) ? bpf_map_lookup_elem(&congestions, &flow) : NULL;
	if (!found || !found->since)
		return 0;
	spend(found, found->state, now - found->since);
	lasted(found->state, now - found->since);
	found->since = 0;
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What bash is told, and which programs it starts for that. */
#include <pyebpf.bpf.h>

char LICENSE[] SEC("license") = "Dual BSD/GPL";

enum kind { TYPED, STARTED };

struct who {
	__u32 uid;
	char shell[16];
};

struct event {
	__u64 time; /* ns since boot */
	__u32 pid;
	enum kind kind;
	struct who who;
	char text[256]; /* the line, or the program's path */
};

const volatile __u32 only_uid = -1; /* set before loading; -1: everybody */

PYEBPF_RING(events, struct event, 1 << 20);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, struct who);
	__type(value, __u64);
} counts SEC(".maps"); /* programs started */

static __always_inline int tell(enum kind kind, const char *text)
{
	__u32 uid = (__u32)bpf_get_current_uid_gid();
	struct event *event;

	if (only_uid != (__u32)-1 && uid != only_uid)
		return 0;
	event = events_reserve();
	if (!event) /* counted in events_dropped */
		return 0;
	event->time = bpf_ktime_get_ns();
	event->pid = bpf_get_current_pid_tgid() >> 32;
	event->kind = kind;
	event->who.uid = uid;
	bpf_get_current_comm(event->who.shell, sizeof(event->who.shell));
	if (bpf_probe_read_user_str(event->text, sizeof(event->text), text) < 0)
		event->text[0] = 0;
	if (kind == STARTED) {
		__u64 one = 1, *count = bpf_map_lookup_elem(&counts, &event->who);

		if (count)
			__sync_fetch_and_add(count, 1);
		else
			bpf_map_update_elem(&counts, &event->who, &one, BPF_NOEXIST);
	}
	events_submit(event);
	return 0;
}

/* char *readline(const char *prompt) */
SEC("uretprobe")
int BPF_URETPROBE(on_line, const char *line)
{
	return line ? tell(TYPED, line) : 0; /* NULL: the end of the input */
}

/* int shell_execve(char *command, char **args, char **env), in the process that becomes the program */
SEC("uprobe")
int BPF_UPROBE(on_start, const char *command)
{
	return tell(STARTED, command);
}

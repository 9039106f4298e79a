/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bashreadline: what readline() returns. Its entry isn't looked at, so a shell may wait at its prompt already. */
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include "bashreadline.h"
#include "include/regs.bpf.h"
#include "include/site.bpf.h"
#include "include/tally.bpf.h"
#include "include/events.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const struct line_event *unused_line_event __attribute__((unused)); /* see the anchor in site.bpf.h */

/* char *readline(const char *prompt): memory of malloc, just written. NULL: the input has ended. */
SEC("uprobe")
int on_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = current_pid_tgid(), line = read_result_register(ctx), cookie = site_cookie(ctx);
	struct line_event *event;
	__s32 size;

	own_stack();
	if (!line || !wanted_here(pid_tgid))
		return 0;
	event = reserve_with_text(sizeof(*event), (void *)line, &size);
	if (!event)
		return 0;
	actor_here(&event->actor, pid_tgid);
	event->line_size = size;
	event->function = (__u32)cookie;
	submit(event);
	return 0;
}

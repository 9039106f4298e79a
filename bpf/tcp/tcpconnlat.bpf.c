/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* tcpconnlat: how long connecting takes. */
#include "vmlinux.h"
#include "sock.h"
#include "syscalls.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "tcpconnlat.h"
#include "include/events.bpf.h"
#include "include/task.bpf.h"
#include "include/flow.bpf.h"
#include "include/connect.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef __PYEBPF_TCPCONNLAT_H
#define __PYEBPF_TCPCONNLAT_H

#include "include/connect.h"

#endif

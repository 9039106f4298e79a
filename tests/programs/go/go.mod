// SPDX-License-Identifier: BSD-2-Clause
module targets

go 1.15

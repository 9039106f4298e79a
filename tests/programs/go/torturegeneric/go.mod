// SPDX-License-Identifier: BSD-2-Clause
module targets/torturegeneric

go 1.18

require targets v0.0.0

replace targets => ../

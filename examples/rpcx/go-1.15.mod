// SPDX-License-Identifier: BSD-2-Clause
// For Go 1.15 to 1.18: the newest rpcx that Go 1.15 builds. go build -modfile=go-1.15.mod ./server
module multiply

go 1.15

require (
	github.com/rpcxio/rpcx-examples v1.1.6
	github.com/smallnest/rpcx v1.6.11
)

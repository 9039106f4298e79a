// SPDX-License-Identifier: BSD-2-Clause

// inlined calls functions whose calls the compiler has replaced by their code: inlined [-n ROUNDS]
//
//	main.small     called through a variable ROUNDS times: these can be seen; inlined into main.caller and main.other,
//	               ROUNDS times each: these can't
//	main.caller    not inlined; ROUNDS times
//	main.other     not inlined; ROUNDS times
//	main.nowhere   inlined wherever it is called; it may have no code of its own
//
// "inlined": the calls that happened without a call.
package main

import (
	"flag"

	"targets/truth"
)

func small(i int) int {
	return i*i + 3
}

func nowhere(i int) int {
	return i ^ 1234567
}

//go:noinline
func caller(i int) int {
	return small(i) ^ nowhere(i) // arm64 has an instruction for the product and a sum: with "+" nothing would be left of small
}

//go:noinline
func other(i int) int {
	return small(i+1) - nowhere(i+2)
}

// A variable may change, so a call through it stays a call
var variable = small

func main() {
	rounds := flag.Int("n", 997, "rounds")
	flag.Parse()
	truth.Ready("inlined")

	sum := 0
	smallCount, callerCount, otherCount := truth.Of("main.small"), truth.Of("main.caller"), truth.Of("main.other")
	for i := 0; i < *rounds; i++ {
		start := smallCount.Enter()
		sum += variable(i)
		smallCount.Leave(start)

		start = callerCount.Enter()
		sum += caller(i)
		callerCount.Leave(start)

		start = otherCount.Enter()
		sum += other(i)
		otherCount.Leave(start)
	}
	truth.Print("inlined", map[string]interface{}{
		"sum":     sum,
		"inlined": map[string]int{"main.small": 2 * *rounds, "main.nowhere": 2 * *rounds},
	})
}

// SPDX-License-Identifier: BSD-2-Clause

package main

import "targets/tally"

type adder struct{ add, multiply int }

// Adds is called directly, by a method value, by a method expression and through an interface.
//
//go:noinline
func (a *adder) Adds(who int) int { return who*a.multiply + a.add }

type square struct{ side int }

// Says has a receiver that is no pointer: an interface reaches it through a wrapper.
//
//go:noinline
func (s square) Says(who int) int { return tally.Answer(who) + s.side - s.side }

type says interface{ Says(who int) int }

// closes returns a closure, main.closes.func1, which has what it captures behind a register.
//
//go:noinline
func closes(captured *adder, more int) func(who int) int {
	return func(who int) int {
		room := [512]byte{}
		room[who%512] = byte(more)
		return captured.Adds(who) + int(room[who%512]) - int(byte(more))
	}
}

// wide has more arguments than there are registers.
//
//go:noinline
func wide(who, a, b, c, d, e, f, g, h, i, j, k int) int {
	return tally.Answer(who) + a + b + c + d + e + f + g + h + i + j + k - 11*a
}

// named has its result changed by a deferred call.
//
//go:noinline
func named(who int) (result int) {
	defer func() { result += tally.Answer(who) }()
	return 0
}

// shapes: AMOUNT rounds, each on a fresh stack, in which functions are called in all the ways there are.
func shapes(n int) map[string]interface{} {
	addsTruth, saysTruth := tally.Of("main.(*adder).Adds"), tally.Of("main.square.Says")
	closureTruth, wideTruth, namedTruth := tally.Of("main.closes.func1"), tally.Of("main.wide"), tally.Of("main.named")
	inParallel(7, n, func(i int) {
		goid := tally.Goid()
		it := &adder{3, 7}
		start := addsTruth.Enter()
		addsTruth.Leave(start, goid, i, it.Adds(i))
		value := it.Adds
		addsTruth.Add(1, goid, i, value(i))
		addsTruth.Add(1, goid, i, (*adder).Adds(it, i))
		func() {
			defer it.Adds(i)
			addsTruth.Add(1, goid, i, tally.Answer(i))
		}()

		var speaker says = square{i}
		saysTruth.Add(1, goid, i, speaker.Says(i))
		pointed := speaker.Says
		saysTruth.Add(1, goid, i, pointed(i))

		closure := closes(it, i)
		start = closureTruth.Enter()
		closureTruth.Leave(start, goid, i, closure(i))
		addsTruth.Add(1, goid, i, tally.Answer(i))

		start = wideTruth.Enter()
		wideTruth.Leave(start, goid, i, wide(i, i, i, i, i, i, i, i, i, i, i, i))
		start = namedTruth.Enter()
		namedTruth.Leave(start, goid, i, named(i))

		done := make(chan struct{})
		go func() {
			defer close(done)
			goid := tally.Goid()
			call := (&adder{3, 7}).Adds
			addsTruth.Add(1, goid, i, call(i))
		}()
		<-done
	})
	return map[string]interface{}{"rounds": n}
}

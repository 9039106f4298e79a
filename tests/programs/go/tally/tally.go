// SPDX-License-Identifier: BSD-2-Clause

// Package tally is the truth of the torture programs: of every call also the argument, the result and the goroutine.
//
// Each function they have traced takes a number called who and returns Answer(who). So whoever matches the entry of one
// call with the return of another sees a wrong pair, and a program that was harmed computes a wrong checksum.
package tally

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Function is the truth about one function. Any goroutine may use it.
type Function struct {
	calls, returns, timed, ns, who, results, goids, least int64
}

var (
	lock      sync.Mutex
	functions = map[string]*Function{}
	input     = bufio.NewReader(os.Stdin)
	wrong     int64
)

// Answer is what every traced function returns.
func Answer(who int) int { return 7*who + 3 }

// Of returns the truth about a function, by the name a tracer knows it by: "main.naps".
func Of(name string) *Function {
	lock.Lock()
	defer lock.Unlock()
	function := functions[name]
	if function == nil {
		function = new(Function)
		functions[name] = function
	}
	return function
}

// Goid is the number of the goroutine that calls it, which Go tells in no other way.
func Goid() int64 {
	var text [64]byte
	words := strings.Fields(string(text[:runtime.Stack(text[:], false)]))
	goid, err := strconv.ParseInt(words[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return goid
}

// Enter is called just before the function is, Leave with its result just after it has returned.
func (f *Function) Enter() time.Time {
	atomic.AddInt64(&f.calls, 1)
	return time.Now()
}

// Leave is not called where the function was left by a panic or Goexit.
func (f *Function) Leave(start time.Time, goid int64, who, result int) {
	atomic.AddInt64(&f.ns, time.Since(start).Nanoseconds())
	atomic.AddInt64(&f.timed, 1)
	f.returned(1, goid, who, result)
}

// Took says how long a call that has returned must have lasted at least.
func (f *Function) Took(least time.Duration) { atomic.AddInt64(&f.least, least.Nanoseconds()) }

// Add counts calls with the same argument that returned and were not timed.
func (f *Function) Add(calls int, goid int64, who, result int) {
	atomic.AddInt64(&f.calls, int64(calls))
	f.returned(int64(calls), goid, who, result)
}

// Call counts calls that did not return (yet).
func (f *Function) Call(calls int) { atomic.AddInt64(&f.calls, int64(calls)) }

func (f *Function) returned(times, goid int64, who, result int) {
	atomic.AddInt64(&f.returns, times)
	atomic.AddInt64(&f.who, times*int64(who))
	atomic.AddInt64(&f.results, times*int64(result))
	atomic.AddInt64(&f.goids, times*goid)
	if result != Answer(who) {
		atomic.AddInt64(&wrong, times)
	}
}

// Main is the main function: it waits for a line of standard input, lets the program work, prints the truth, and then
// does it all again, in short, at the next line: whoever traced it may have gone, and it must still work.
//
//	PROGRAM [-n AMOUNT] [-on] [SCENARIO]
//
// With -on it works on and on until another line comes, and only then prints the truth.
func Main(scenarios map[string]func(n int) map[string]interface{}) {
	amount := flag.Int("n", 997, "how much of everything")
	on := flag.Bool("on", false, "until another line comes")
	flag.Parse()
	work := scenarios[flag.Arg(0)]
	fmt.Printf("{\"ready\": %q, \"pid\": %d}\n", flag.Arg(0), os.Getpid())
	_, _ = input.ReadString('\n')
	told := make(chan struct{})
	go func() {
		_, _ = input.ReadString('\n')
		close(told)
	}()
	for *on && !isClosed(told) {
		work(*amount)
	}
	report(work(*amount))
	if *on {
		_, _ = input.ReadString('\n')
	}
	<-told
	report(work(*amount/10 + 1))
}

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

func report(more map[string]interface{}) {
	told := map[string]map[string]int64{}
	lock.Lock()
	for name, f := range functions {
		if f.calls == 0 {
			continue
		}
		told[name] = map[string]int64{
			"calls": f.calls, "returns": f.returns, "ns": f.ns, "who": f.who, "results": f.results, "goids": f.goids,
			"timed": f.timed, "least": f.least,
		}
	}
	lock.Unlock()
	all := map[string]interface{}{"go": runtime.Version(), "functions": told, "wrong": atomic.LoadInt64(&wrong)}
	for key, value := range more {
		all[key] = value
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		panic(err)
	}
}

// SPDX-License-Identifier: BSD-2-Clause

// Package truth is what every Go target shares: it says that it is there, waits to be told to begin, and tells the truth
// at the end, in the form that ../../truth.h describes.
package truth

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Count is the truth about one function. Any goroutine may use it.
type Count struct {
	calls, returns, ns int64
}

var (
	lock   sync.Mutex
	counts = map[string]*Count{}
	input  = bufio.NewReader(os.Stdin)
)

// Of returns the count of a function, by the name a tracer knows it by: "main.nap".
func Of(name string) *Count {
	lock.Lock()
	defer lock.Unlock()
	count := counts[name]
	if count == nil {
		count = new(Count)
		counts[name] = count
	}
	return count
}

// Enter is called just before the function is, Leave with its result just after it has returned.
func (c *Count) Enter() time.Time {
	atomic.AddInt64(&c.calls, 1)
	return time.Now()
}

// Leave is not called where the function was left by a panic or Goexit.
func (c *Count) Leave(start time.Time) {
	ns := time.Since(start).Nanoseconds()
	atomic.AddInt64(&c.returns, 1)
	atomic.AddInt64(&c.ns, ns)
}

// Add counts calls that returned and were not timed.
func (c *Count) Add(calls int64) {
	atomic.AddInt64(&c.calls, calls)
	atomic.AddInt64(&c.returns, calls)
}

// Thread returns the thread that the goroutine runs on at this moment.
func Thread() int {
	return syscall.Gettid()
}

// Ready prints that the program is there and waits for a line on standard input, or its end.
func Ready(program string) {
	fmt.Printf("{\"ready\": %q, \"pid\": %d}\n", program, os.Getpid())
	_, _ = input.ReadString('\n')
}

// Wait waits for another line, or the end of standard input.
func Wait() {
	_, _ = input.ReadString('\n')
}

// Print prints the truth, with what else the program knows.
func Print(program string, more map[string]interface{}) {
	calls, returns, ns := map[string]int64{}, map[string]int64{}, map[string]int64{}
	lock.Lock()
	for name, count := range counts {
		calls[name], returns[name], ns[name] = count.calls, count.returns, count.ns
	}
	lock.Unlock()
	all := map[string]interface{}{
		"program": program, "pid": os.Getpid(), "tid": Thread(), "go": runtime.Version(),
		"calls": calls, "returns": returns, "ns": ns,
	}
	for key, value := range more {
		all[key] = value
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		panic(err)
	}
}

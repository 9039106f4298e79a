// SPDX-License-Identifier: BSD-2-Clause

// web is an HTTP server of net/http and its own client: web [-n REQUESTS]
//
// The truth has a key "requests": the method, path, query and status of each, in order.
package main

import (
	"flag"
	"fmt"
	"io"
	"io/ioutil"
	"net"
	"net/http"
	"strings"

	"targets/truth"
)

type request struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	Query  string `json:"query"`
	Body   int    `json:"body"`
	Status int    `json:"status"`
}

func answer(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/missing") {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.Copy(w, r.Body)
}

func main() {
	rounds := flag.Int("n", 7, "requests")
	flag.Parse()
	truth.Ready("web")

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Addr: "the address", Handler: http.HandlerFunc(answer)}
	go func() { _ = server.Serve(listener) }()

	var requests []request
	for i := 0; i < *rounds; i++ {
		asked := request{
			Method: []string{"GET", "POST", "DELETE"}[i%3],
			Path:   []string{"/", "/orders/", "/a/missing"}[i%3],
			Query:  fmt.Sprintf("number=%d", i),
			Body:   10 * i,
		}
		if i%3 == 1 {
			asked.Path += fmt.Sprint(i)
		}
		body := strings.NewReader(strings.Repeat("x", asked.Body))
		r, err := http.NewRequest(asked.Method, fmt.Sprintf("http://%s%s?%s", listener.Addr(), asked.Path, asked.Query), body)
		if err != nil {
			panic(err)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(err)
		}
		asked.Status = response.StatusCode
		_, _ = io.Copy(ioutil.Discard, response.Body)
		response.Body.Close()
		requests = append(requests, asked)
	}
	truth.Print("web", map[string]interface{}{"requests": requests})
}

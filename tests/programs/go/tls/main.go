// SPDX-License-Identifier: BSD-2-Clause

// tls is a server of crypto/tls that sends back what it gets, and its own client: tls [-n MESSAGES] [-size MOST]
//
// The truth has a key "data": of each Read and Write of both, whether it wrote, how many bytes, and their SHA-256.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"math/big"
	"sync"
	"time"

	"targets/truth"
)

type event struct {
	Wrote bool   `json:"wrote"`
	Size  int    `json:"size"`
	Sum   string `json:"sum"`
}

var (
	lock   sync.Mutex
	events []event
)

func note(wrote bool, data []byte) {
	sum := sha256.Sum256(data)
	lock.Lock()
	events = append(events, event{wrote, len(data), hex.EncodeToString(sum[:])})
	lock.Unlock()
}

// As *tls.Conn, not as an interface: so that the buffer may lie on the stack, which moves when it grows.
func read(conn *tls.Conn) []byte {
	var buffer [2048]byte
	n, err := conn.Read(buffer[:])
	if err != nil {
		return nil
	}
	note(false, buffer[:n])
	return append([]byte(nil), buffer[:n]...)
}

func write(conn *tls.Conn, data []byte) {
	n, err := conn.Write(data)
	if err != nil {
		panic(err)
	}
	note(true, data[:n])
}

func serve(conn *tls.Conn) {
	for {
		data := read(conn)
		if data == nil {
			return
		}
		write(conn, data)
	}
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	rounds := flag.Int("n", 23, "messages")
	most := flag.Int("size", 10007, "bytes of the largest")
	flag.Parse()
	own := certificate()
	truth.Ready("tls")

	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}})
	if err != nil {
		panic(err)
	}
	served := make(chan bool)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		serve(conn.(*tls.Conn))
		close(served)
	}()
	conn, err := tls.Dial("tcp", listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		panic(err)
	}
	for i := 0; i < *rounds; i++ {
		data := make([]byte, 1+i**most/(*rounds))
		for j := range data {
			data[j] = byte(i + 7*j)
		}
		write(conn, data)
		for got := 0; got < len(data); {
			got += len(read(conn))
		}
	}
	conn.Close()
	<-served
	truth.Print("tls", map[string]interface{}{"data": events})
}

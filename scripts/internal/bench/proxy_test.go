package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

func TestProxyDelaysEachDirection(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		c, err := echo.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c) // what it lacks is noticed
		c.Close()
	}()
	const delay = 20 * time.Millisecond
	p, err := newProxy(echo.Addr().String(), delay)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent, got := make([]byte, mib), make([]byte, mib)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent) // it cannot fail
	began := time.Now()
	go func() { _, _ = c.Write(sent) }() // likewise
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if passed := time.Since(began); passed < 2*delay {
		t.Errorf("there and back took %s", passed)
	}
	if !bytes.Equal(got, sent) {
		t.Error("it came back changed")
	}
	if n := p.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

package main

import (
	"net"
	"sync/atomic"
	"time"
)

// A proxy passes TCP connections on, with a delay in each direction that does not limit the rate.
type proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration
	accepted atomic.Int64 // connections so far
}

// newProxy starts a proxy that ends with this process.
func newProxy(target string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target, delay: delay}
	go p.serve()
	return p, nil
}

func (p *proxy) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *proxy) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.accepted.Add(1)
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		go p.pass(client, server)
		go p.pass(server, client)
	}
}

type piece struct {
	bytes []byte
	due   time.Time
}

// pass passes bytes in one direction, and the end of them. Up to 256 MiB are on the way.
func (p *proxy) pass(from, to net.Conn) {
	const pieceSize, pieces = 64 << 10, 4096
	way := make(chan piece, pieces)
	go func() {
		defer close(way)
		for {
			b := make([]byte, pieceSize)
			n, err := from.Read(b)
			if n > 0 {
				way <- piece{b[:n], time.Now().Add(p.delay)}
			}
			if err != nil {
				return
			}
		}
	}()
	for next := range way {
		time.Sleep(time.Until(next.due))
		if _, err := to.Write(next.bytes); err != nil {
			break
		}
	}
	from.Close()
	to.Close()
	for range way { // until the reader has noticed
	}
}

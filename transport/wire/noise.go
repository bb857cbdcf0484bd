package wire

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"sync"
)

// noise is what comes before the magic.
type noise struct {
	mu    sync.Mutex
	text  []byte
	ended bool // the magic came
}

func (n *noise) skip(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if n.add(b) {
			return nil
		}
		if len(n.text) >= maxNoise+len(magic) {
			return errors.New("too much text")
		}
	}
}

func (n *noise) add(b byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = append(n.text, b)
	n.ended = bytes.HasSuffix(n.text, []byte(magic))
	return n.ended
}

func (n *noise) said() (said string, ended bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return oneLine(n.text), n.ended
}

func (n *noise) banner() string { return string(bytes.TrimSuffix(n.text, []byte(magic))) }

// oneLine is one line of the end of a text: a login shell's greeting comes first, its complaint last.
func oneLine(text []byte) string {
	const limit = 400
	s := strings.Join(strings.Fields(string(text)), " ")
	if len(s) > limit {
		s = "..." + s[len(s)-limit:]
	}
	return s
}

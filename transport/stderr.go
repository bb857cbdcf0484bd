package transport

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
)

// stderrLog logs the lines that a program writes to its standard error and remembers the last ones.
type stderrLog struct {
	log     *slog.Logger
	level   slog.Level
	program string
	said    func(line string) // may be nil
	rest    []byte            // an unfinished line
	last    []string
}

const (
	maxLine  = 32 << 10 // rsync writes a path with four characters for a byte
	maxLines = 4
)

func (s *stderrLog) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		end := bytes.IndexAny(s.rest, "\n\r")
		if end < 0 && len(s.rest) < maxLine {
			return len(p), nil
		}
		if end < 0 {
			end = len(s.rest) - 1
		}
		s.line(string(s.rest[:end+1]))
		s.rest = s.rest[end+1:]
	}
}

// flush takes an unfinished last line as a line.
func (s *stderrLog) flush() {
	s.line(string(s.rest))
	s.rest = nil
}

func (s *stderrLog) line(text string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	s.log.Log(context.Background(), s.level, s.program+": "+text)
	if s.said != nil {
		s.said(text)
	}
	s.last = append(s.last, strings.TrimPrefix(text, "ERROR: "))
	if len(s.last) > maxLines {
		s.last = s.last[1:]
	}
}

func (s *stderrLog) tail() string { return strings.Join(s.last, "; ") }

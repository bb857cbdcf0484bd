package transport

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
)

// Stderr logs the lines that a program writes to its standard error and remembers the last ones.
type Stderr struct {
	Program string // its name in messages

	log   *slog.Logger
	level slog.Level
	said  func(line string) // may be nil
	rest  []byte            // an unfinished line
	last  []string
}

const (
	maxLine  = 32 << 10 // rsync writes a path with four characters for a byte
	maxLines = 4
)

// NewStderr gives one for a program. said is told each line; it may be nil.
func NewStderr(log *slog.Logger, level slog.Level, program string, said func(line string)) *Stderr {
	return &Stderr{Program: program, log: log, level: level, said: said}
}

func (s *Stderr) Write(p []byte) (int, error) {
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

// Flush takes an unfinished last line as a line.
func (s *Stderr) Flush() {
	s.line(string(s.rest))
	s.rest = nil
}

func (s *Stderr) line(text string) {
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	s.log.Log(context.Background(), s.level, s.Program+": "+text)
	if s.said != nil {
		s.said(text)
	}
	s.last = append(s.last, strings.TrimPrefix(text, "ERROR: "))
	if len(s.last) > maxLines {
		s.last = s.last[1:]
	}
}

// Tail gives the last lines, joined by "; ".
func (s *Stderr) Tail() string { return strings.Join(s.last, "; ") }

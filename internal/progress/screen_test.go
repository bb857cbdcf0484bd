package progress

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/cheggaaa/pb/v3"
)

// A screen is a terminal that understands the sequences that bars emit, and
// fails the test on any other.
type screen struct {
	t             *testing.T
	mu            sync.Mutex
	width, height int
	lines         [][]string // cells; the second cell of a wide character is empty
	row, col      int        // row counts from the first line ever written
	noWrap        bool
	writes        int
}

func newScreen(t *testing.T, width, height int) *screen {
	return &screen{t: t, width: width, height: height, lines: make([][]string, 1)}
}

func (s *screen) size() (width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	for rest := string(p); rest != ""; {
		if sequence, ok := strings.CutPrefix(rest, "\x1b["); ok {
			end := strings.IndexFunc(sequence, func(r rune) bool { return r >= '@' && r <= '~' })
			s.control(sequence[:end], sequence[end])
			rest = sequence[end+1:]
			continue
		}
		r := []rune(rest)[0]
		s.put(r)
		rest = rest[len(string(r)):]
	}
	return len(p), nil
}

func (s *screen) control(parameters string, final byte) {
	switch fmt.Sprintf("%s%c", parameters, final) {
	case "?7l", "?7h":
		s.noWrap = final == 'l'
	case "K":
		s.lines[s.row] = s.lines[s.row][:min(s.col, len(s.lines[s.row]))]
	case "J":
		s.control("", 'K')
		s.lines = s.lines[:s.row+1]
	default:
		n, err := strconv.Atoi(parameters)
		if final != 'A' || err != nil || n < 1 {
			s.t.Errorf("unexpected control sequence ESC [ %s %c", parameters, final)
		}
		s.row = max(s.row-n, len(s.lines)-s.height, 0)
	}
}

func (s *screen) put(r rune) {
	switch {
	case r == '\r':
		s.col = 0
	case r == '\n':
		s.newline()
	case r < ' ':
		s.t.Errorf("unexpected control character %q", r)
	default:
		s.print(string(r))
	}
}

func (s *screen) newline() {
	s.col = 0
	s.row++
	if s.row == len(s.lines) {
		s.lines = append(s.lines, nil)
	}
}

func (s *screen) print(char string) {
	cells := []string{char, ""}[:pb.CellCount(char)]
	if s.col+len(cells) > s.width {
		if s.noWrap {
			s.t.Errorf("%q is beyond column %d", char, s.width)
			return
		}
		s.newline()
	}
	line := append(s.lines[s.row], make([]string, s.width)...)[:max(len(s.lines[s.row]), s.col+len(cells))]
	copy(line[s.col:], cells)
	s.lines[s.row] = line
	s.col += len(cells)
}

// narrow breaks the lines that are wider than the new width.
func (s *screen) narrow(width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines [][]string
	for _, line := range s.lines {
		for len(line) > width {
			lines = append(lines, line[:width])
			line = line[width:]
		}
		lines = append(lines, line)
	}
	s.row += len(lines) - len(s.lines)
	s.lines, s.width = lines, width
}

func (s *screen) String() string {
	var text []string
	for _, line := range s.lines {
		text = append(text, strings.Join(line, ""))
	}
	return strings.Join(text, "\n")
}

// shows fails the test unless the screen has these lines and the cursor at the
// start of the line below.
func (s *screen) shows(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := s.String(), strings.Join(append(want, ""), "\n"); got != want {
		s.t.Errorf("screen shows\n%s\nwant\n%s", got, want)
	}
	if s.row != len(s.lines)-1 || s.col != 0 {
		s.t.Errorf("cursor at row %d of %d, column %d", s.row, len(s.lines), s.col)
	}
}

package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cheggaaa/pb/v3"
	"golang.org/x/term"
)

const (
	redrawEvery = 200 * time.Millisecond

	// To compute a total competes with the transfer, which a short one need not pay for.
	measureAfter = time.Second
)

// ECMA-48 control sequences, and the private mode DECAWM of the VT100.
const (
	cursorUp   = "\x1b[%dA"
	eraseRight = "\x1b[K"
	eraseBelow = "\x1b[J"
	wrapOff    = "\x1b[?7l"
	wrapOn     = "\x1b[?7h"
)

// bars shows one row per running transfer, and the cursor on the line below.
type bars struct {
	out   io.Writer
	size  func() (width, height int)
	drawn []int // cells of each row now on the terminal
}

// NewBars returns a Display that draws on a terminal. Each transfer leaves one
// line when it is done.
func NewBars(terminal *os.File) *Display {
	size := func() (int, int) { return terminalSize(terminal) }
	return newDisplay(&bars{out: terminal, size: size}, redrawEvery)
}

func terminalSize(f *os.File) (width, height int) {
	width, height, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24
	}
	return width, height
}

// Width gives the cells in a row of a terminal.
func Width(terminal *os.File) int {
	width, _ := terminalSize(terminal)
	return width
}

func (b *bars) refresh(running []*Transfer) {
	width, height := b.size()
	rows := make([]row, len(running))
	for i, t := range running {
		if time.Since(t.began) >= measureAfter {
			t.measure()
		}
		rows[i] = newRow(t.title, t.status())
	}
	// A cell to the right stays empty, since a cursor behind the last cell
	// is in a state that terminals treat differently.
	b.draw(fit(lay(rows, width-1), height-1), width)
}

func (b *bars) clear() {
	width, _ := b.size()
	b.draw(nil, width)
}

func (b *bars) finished(t *Transfer, err error) {
	b.clear()
	now, n := time.Now(), t.bytes.Load()
	took := Duration(now.Sub(t.began))
	outcome := fmt.Sprintf("%s in %s, %s", Bytes(n), took, speed(t.meter.average(now, n)))
	if err != nil {
		outcome = fmt.Sprintf("failed after %s, %s", Bytes(n), took)
	}
	fmt.Fprintf(b.out, "%s: %s%s\n", t.title, outcome, t.status().onWire())
}

// draw puts rows in the place of those drawn before, in one write, so that no
// half of a frame is ever seen. Automatic wrapping is off meanwhile: where the
// terminal takes a character to be wider than we do, the row must not grow.
func (b *bars) draw(rows []string, width int) {
	if len(rows) == 0 && len(b.drawn) == 0 {
		return
	}
	var frame strings.Builder
	frame.WriteString(wrapOff + "\r")
	if up := b.height(width); up > 0 {
		fmt.Fprintf(&frame, cursorUp, up)
	}
	b.drawn = b.drawn[:0]
	for _, row := range rows {
		frame.WriteString(row + eraseRight + "\n")
		b.drawn = append(b.drawn, pb.CellCount(row))
	}
	frame.WriteString(eraseBelow + wrapOn)
	fmt.Fprint(b.out, frame.String())
}

// height returns the lines that the drawn rows take. Most terminals that become
// narrower break them; on one that cuts them instead, such as xterm, as many
// lines of text above are lost, which is better than remains of every resize.
func (b *bars) height(width int) int {
	lines := 0
	for _, cells := range b.drawn {
		lines += max(1, (cells+width-1)/width)
	}
	return lines
}

// fit drops the rows for which there is no place: the cursor cannot go up
// beyond the top of the terminal.
func fit(rows []string, height int) []string {
	if len(rows) <= height {
		return rows
	}
	if height < 1 {
		return nil
	}
	more := fmt.Sprintf("and %d more", len(rows)-height+1)
	return append(rows[:height-1], more)
}

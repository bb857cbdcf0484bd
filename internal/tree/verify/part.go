package verify

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"
)

// A Part chooses files by their paths. The zero Part is all.
type Part struct {
	Of    int // equal parts there are
	First int // of those that are chosen, from 0
	Count int
}

// Has tells whether a file is chosen.
func (p Part) Has(path string) bool {
	if p.Of == 0 {
		return true
	}
	h := fnv.New32a()
	h.Write([]byte(path))
	return (int(h.Sum32()%uint32(p.Of))-p.First+p.Of)%p.Of < p.Count
}

func (p Part) String() string { return fmt.Sprintf("%d/%d", p.Count, p.Of) }

// mostParts is how many parts there are at most: a day for each must be foreseeable.
const mostParts = 10000

// ParsePart reads how much is to be read each day, as in 1/30, and gives the part of a day. The parts of as many days as it takes
// together are all.
func ParsePart(text string, day time.Time) (Part, error) {
	a, b, _ := strings.Cut(text, "/")
	count, err := strconv.Atoi(a)
	of, ofErr := strconv.Atoi(b)
	if err != nil || ofErr != nil || count < 1 || of < count || of > mostParts {
		return Part{}, fmt.Errorf("%q is no part such as 1/30", text)
	}
	_, offset := day.Zone()
	days := (day.Unix() + int64(offset)) / (24 * 60 * 60)
	return Part{Of: of, First: int(days % int64(of) * int64(count) % int64(of)), Count: count}, nil
}

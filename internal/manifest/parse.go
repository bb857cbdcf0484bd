package manifest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// A keyword is one of an entry, or a set of them.
type keyword uint16

const (
	typeKeyword keyword = 1 << iota
	modeKeyword
	uidKeyword
	gidKeyword
	sizeKeyword
	timeKeyword
	linkKeyword
	deviceKeyword
	sha256Keyword
	tagsKeyword
	inodeTag
	linksTag
	changeTimeTag
	xattrsTag
	dataTag
)

var errNumber = errors.New("not a number in range")

// parse reads the line of an entry.
func (r *Reader) parse(line []byte, e *Entry) error {
	name, words, _ := bytes.Cut(line, []byte(" "))
	path, err := r.parsePath(name)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	e.Path = path
	var seen keyword
	if err := r.parseWords(e, words, ' ', '=', &seen); err != nil {
		return fmt.Errorf("%q: %w", e.Path, err)
	}
	return e.complete(seen)
}

func (r *Reader) parsePath(b []byte) (string, error) {
	if string(b) == "." {
		return ".", nil
	}
	below, ok := bytes.CutPrefix(b, []byte("./"))
	if !ok {
		return "", errors.New("not an entry")
	}
	path, err := r.unescape(below)
	if err == nil && path == "." {
		err = errors.New("not how the root is written")
	}
	return path, err
}

// parseWords reads keywords, or tags, with their values. It passes over those that it does not know.
func (r *Reader) parseWords(e *Entry, words []byte, between, assign byte, seen *keyword) error {
	for len(words) > 0 {
		word := words
		if i := bytes.IndexByte(words, between); i >= 0 {
			word, words = words[:i], words[i+1:]
		} else {
			words = nil
		}
		key, value := word, []byte(nil)
		if i := bytes.IndexByte(word, assign); i >= 0 {
			key, value = word[:i], word[i+1:]
		}
		k := keywordOf(key)
		if k&*seen != 0 {
			return fmt.Errorf("%s is given twice", key)
		}
		*seen |= k
		if err := r.parseValue(e, k, value, seen); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}

func keywordOf(b []byte) keyword {
	switch string(b) {
	case "type":
		return typeKeyword
	case "mode":
		return modeKeyword
	case "uid":
		return uidKeyword
	case "gid":
		return gidKeyword
	case "size":
		return sizeKeyword
	case "time":
		return timeKeyword
	case "link":
		return linkKeyword
	case "device":
		return deviceKeyword
	case "sha256digest":
		return sha256Keyword
	case "tags":
		return tagsKeyword
	case "inode":
		return inodeTag
	case "links":
		return linksTag
	case "ctime":
		return changeTimeTag
	case "xattrs":
		return xattrsTag
	case "data":
		return dataTag
	}
	return 0
}

func (r *Reader) parseValue(e *Entry, k keyword, value []byte, seen *keyword) (err error) {
	switch k {
	case typeKeyword:
		e.Type, err = parseType(value)
	case modeKeyword:
		e.Mode, err = parseUint32(value, 8)
	case uidKeyword:
		e.UID, err = parseUint32(value, 10)
	case gidKeyword:
		e.GID, err = parseUint32(value, 10)
	case sizeKeyword:
		e.Size, err = parseSize(value)
	case timeKeyword:
		e.ModTime, err = parseTime(value)
	case linkKeyword:
		e.Target, err = r.unescape(value)
	case deviceKeyword:
		e.Device, err = parseDevice(value)
	case sha256Keyword:
		err = parseDigest(&e.SHA256, value)
	case tagsKeyword:
		err = r.parseWords(e, value, ',', ':', seen)
	case inodeTag:
		e.Inode, err = parseUint(value, 10, math.MaxUint64)
	case linksTag:
		e.Links, err = parseUint(value, 10, math.MaxUint64)
	case changeTimeTag:
		e.ChangeTime, err = parseTime(value)
	case dataTag:
		e.Sparse, err = true, parseDigest(&e.SHA256, value)
	case xattrsTag:
		err = parseDigest(&e.Xattrs, value)
	}
	return err
}

// complete refuses an entry that lacks a keyword of its type, or has one of another.
func (e *Entry) complete(seen keyword) error {
	const always, byType = typeKeyword | modeKeyword | uidKeyword | gidKeyword | timeKeyword, sizeKeyword | linkKeyword | deviceKeyword
	want := always
	switch e.Type {
	case Regular:
		want |= sizeKeyword
	case Symlink:
		want |= linkKeyword
	case BlockDevice, CharDevice:
		want |= deviceKeyword
	}
	if seen&(always|byType) != want || seen&(sha256Keyword|dataTag) == sha256Keyword|dataTag {
		return fmt.Errorf("%q: keywords are missing, or do not belong to a %q", e.Path, string(e.Type))
	}
	return nil
}

// parseType gives the constant: a string of its own would be one more for each entry.
func parseType(b []byte) (Type, error) {
	for i := range types {
		if string(b) == string(types[i].name) {
			return types[i].name, nil
		}
	}
	return "", fmt.Errorf("unknown type %q", b)
}

func parseSize(b []byte) (int64, error) {
	n, err := parseUint(b, 10, math.MaxInt64)
	return int64(n), err
}

func parseUint32(b []byte, base uint64) (uint32, error) {
	n, err := parseUint(b, base, math.MaxUint32)
	return uint32(n), err
}

func parseUint(b []byte, base, limit uint64) (uint64, error) {
	var n uint64
	for _, c := range b {
		digit := uint64(c - '0')
		if digit >= base || n > (limit-digit)/base {
			return 0, errNumber
		}
		n = n*base + digit
	}
	if len(b) == 0 {
		return 0, errNumber
	}
	return n, nil
}

func parseTime(b []byte) (Time, error) {
	sec, nsec, _ := bytes.Cut(b, []byte("."))
	limit := uint64(math.MaxInt64)
	digits, negative := bytes.CutPrefix(sec, []byte("-"))
	if negative {
		limit++
	}
	s, err := parseUint(digits, 10, limit)
	if err != nil {
		return Time{}, err
	}
	n, err := parseUint(nsec, 10, 999999999)
	if err != nil || len(nsec) != 9 {
		return Time{}, errNumber
	}
	if negative {
		s = -s
	}
	return Time{Sec: int64(s), Nsec: int32(n)}, nil
}

func parseDevice(b []byte) (uint64, error) {
	numbers, ok := bytes.CutPrefix(b, []byte("native,"))
	if !ok {
		return 0, errors.New("not of the form native,MAJOR,MINOR")
	}
	major, minor, _ := bytes.Cut(numbers, []byte(","))
	ma, err := parseUint32(major, 10)
	if err != nil {
		return 0, err
	}
	mi, err := parseUint32(minor, 10)
	if err != nil {
		return 0, err
	}
	return unix.Mkdev(ma, mi), nil
}

func parseDigest(d *Digest, b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return errors.New("not a SHA-256")
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// unescape is the opposite of appendEscaped. Bytes that need no escape may have one, and the other way round.
func (r *Reader) unescape(b []byte) (string, error) {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b), nil
	}
	s := r.scratch[:0]
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' {
			s = append(s, b[i])
			continue
		}
		if i+3 >= len(b) {
			return "", errors.New("an escape is cut off")
		}
		c, err := parseUint(b[i+1:i+4], 8, math.MaxUint8)
		if err != nil {
			return "", errors.New("an escape that is none")
		}
		s = append(s, byte(c))
		i += 3
	}
	r.scratch = s
	return string(s), nil
}

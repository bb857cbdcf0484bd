package seal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/btrfs-backup/btrfs-backup/internal/hint"
)

// Secret keys of age, and of what they consist behind that: bip-0173, Bech32.
const (
	keyPrefix    = "AGE-SECRET-KEY-1"
	hybridPrefix = "AGE-SECRET-KEY-PQ-1"
	keyLetters   = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
	keyLength    = 58 // 32 bytes of 5 bits a letter, and 6 letters of checksum
)

// groupSize is how many letters of a key stand together where people copy it.
const groupSize = 6

// Groups gives the letters behind the prefix of a secret key in groups.
func Groups(key string) (groups []string) {
	letters := key[strings.LastIndexByte(key, '1')+1:]
	for ; len(letters) > groupSize; letters = letters[groupSize:] {
		groups = append(groups, letters[:groupSize])
	}
	return append(groups, letters)
}

// SameGroup tells that what a user typed is the group, however it is written.
func SameGroup(group, typed string) bool { return squeeze(group) == squeeze(typed) }

// squeeze leaves out what people write between letters.
func squeeze(text string) string {
	return strings.ToUpper(strings.NewReplacer(" ", "", "\t", "", "-", "", "\n", "", "\r", "").Replace(text))
}

// ParseKey reads a secret key of age as people write it: in upper or lower case, with blanks and dashes anywhere, with the prefix or
// without. If it is mistyped, the error tells where, if that is certain.
func ParseKey(text string) (age.Identity, error) {
	const forward = "a secret key is AGE-SECRET-KEY-1 and 58 letters and digits behind that"
	if strings.HasPrefix(strings.ToLower(text), "age1") || strings.HasPrefix(text, "ssh-") {
		return nil, hint.New(errors.New("this is a public key, which can only encrypt"), forward)
	}
	if strings.HasPrefix(strings.ToUpper(text), "AGE-PLUGIN-") {
		return nil, hint.New(errors.New("keys of plugins for age, such as those of a YubiKey, cannot be used yet"),
			"use another of the secret keys, such as the paper key")
	}
	prefix, letters := keyPrefix, squeeze(text)
	if rest, ok := strings.CutPrefix(letters, squeeze(hybridPrefix)); ok {
		prefix, letters = hybridPrefix, rest
	} else {
		letters = strings.TrimPrefix(letters, squeeze(keyPrefix))
	}
	if len(letters) < keyLength/2 { // some other text: nothing is to be told of its letters
		return nil, hint.New(errors.New("it is no secret key"), forward)
	}
	for n, letter := range letters {
		if !strings.ContainsRune(keyLetters, letter) {
			return nil, hint.New(fmt.Errorf("%q cannot be in a secret key: see group %d, letter %d", letter, n/groupSize+1, n%groupSize+1),
				"the letters B, I and O and the digit 1 are in none: 8, L, 0 and L look like them")
		}
	}
	if i, err := parseExactly(prefix + letters); err == nil {
		return i, nil
	}
	return nil, mistyped(prefix, letters)
}

func parseExactly(key string) (age.Identity, error) {
	if strings.HasPrefix(key, hybridPrefix) {
		return age.ParseHybridIdentity(key)
	}
	return age.ParseX25519Identity(key)
}

// mistyped tells what is wrong with a key of which the checksum is wrong. With one wrong letter, no other key is as near.
func mistyped(prefix, letters string) error {
	const forward = "compare it with the copy, letter by letter"
	if len(letters) != keyLength {
		return hint.Newf(fmt.Errorf("the key has %d letters behind %s, and should have %d", len(letters), prefix, keyLength),
			"look for letters that are missing or twice: each group has %d, the last one %d", groupSize, keyLength%groupSize)
	}
	for n := range letters {
		for _, letter := range keyLetters {
			if _, err := parseExactly(prefix + letters[:n] + string(letter) + letters[n+1:]); err == nil {
				return hint.New(fmt.Errorf("a letter of the key is wrong, in group %d", n/groupSize+1), forward)
			}
		}
	}
	return hint.New(errors.New("several letters of the key are wrong, or exchanged"), forward)
}

// typed asks for a secret key, or reads it from the input.
func (p Prompt) typed(ctx context.Context) (Identities, error) {
	if p.Input != nil {
		ids, err := parseKeys(io.LimitReader(p.Input, longestFile))
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return ids, nil
	}
	if p.Ask == nil {
		return nil, hint.New(errors.New("the secret key is to be typed, and there is no terminal"), "name its file in place of -")
	}
	for question := "Secret key, such as the paper key (in one line or several):"; ; {
		i, err := p.ask(ctx, question)
		if err == nil {
			return Identities{i}, nil
		}
		if hint.Of(err) == "" { // the terminal
			return nil, err
		}
		question = fmt.Sprintf("%v (%s).\nOnce more, from the beginning:", err, hint.Of(err))
	}
}

// ask asks for lines until they are as long as a key is.
func (p Prompt) ask(ctx context.Context, question string) (age.Identity, error) {
	text := ""
	for {
		line, err := p.Ask(ctx, question, false)
		if errors.Is(err, io.EOF) {
			return nil, errors.New("no secret key was typed")
		}
		if err != nil {
			return nil, err
		}
		text += line + " "
		letters := strings.TrimPrefix(strings.TrimPrefix(squeeze(text), squeeze(hybridPrefix)), squeeze(keyPrefix))
		if line == "" || len(letters) >= keyLength {
			return ParseKey(text)
		}
		question = fmt.Sprintf("%d of %d letters; go on:", len(letters), keyLength)
	}
}

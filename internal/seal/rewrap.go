package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// The header of a file, see age-encryption.org/v1#header.
const (
	intro      = "age-encryption.org/v1\n"
	lineLength = 64
	macLabel   = "header"
)

// Rewrap gives an encrypted file as one for other recipients. Only its header is made anew, as the key of the file stays: whoever had
// read it with an old key can still read it. The rest, beginning with the nonce, is passed on as it is, and not looked at.
func Rewrap(old io.Reader, to Recipients, ids Identities) (io.Reader, error) {
	if len(ids) == 0 {
		return nil, ErrNoIdentity
	}
	var read bytes.Buffer
	header, err := age.ExtractHeader(io.TeeReader(old, &read))
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(read.Bytes(), header)
	if !ok {
		return nil, errors.New("its header is not written as age writes it")
	}
	fileKey, err := age.DecryptHeader(header, ids...)
	if err != nil {
		return nil, wordMismatch(err)
	}
	header, err = makeHeader(fileKey, to)
	if err != nil {
		return nil, err
	}
	return io.MultiReader(bytes.NewReader(header), bytes.NewReader(rest), old), nil
}

// makeHeader wraps the key of a file for recipients: age-encryption.org/v1#header, #recipient-stanza and #header-mac. The library
// makes no header for a key that there is already.
func makeHeader(fileKey []byte, to Recipients) ([]byte, error) {
	if len(to) == 0 {
		return nil, errors.New("there is nobody to encrypt for")
	}
	if err := to.checkMixture(); err != nil {
		return nil, err
	}
	var header bytes.Buffer
	header.WriteString(intro)
	for _, key := range to.keys() {
		stanzas, err := key.Wrap(fileKey)
		if err != nil {
			return nil, err
		}
		for _, s := range stanzas {
			writeStanza(&header, s)
		}
	}
	header.WriteString("---")
	macKey, err := hkdf.Key(sha256.New, fileKey, nil, macLabel, sha256.Size)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, macKey)
	mac.Write(header.Bytes())
	fmt.Fprintf(&header, " %s\n", base64.RawStdEncoding.EncodeToString(mac.Sum(nil)))
	return header.Bytes(), nil
}

// writeStanza writes a body in lines of which the last is always short, if need be empty.
func writeStanza(w *bytes.Buffer, s *age.Stanza) {
	fmt.Fprintf(w, "-> %s\n", strings.Join(append([]string{s.Type}, s.Args...), " "))
	body := base64.RawStdEncoding.EncodeToString(s.Body)
	for ; len(body) >= lineLength; body = body[lineLength:] {
		w.WriteString(body[:lineLength] + "\n")
	}
	w.WriteString(body + "\n")
}

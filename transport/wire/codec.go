package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

var encoding, decoding = modes()

func modes() (cbor.UserBufferEncMode, cbor.DecMode) {
	enc, err := cbor.EncOptions{
		Time:          cbor.TimeRFC3339Nano, // the only form that keeps nanoseconds and the zone
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsNull,
	}.UserBufferEncMode()
	if err != nil {
		panic(err)
	}
	dec, err := cbor.DecOptions{
		UTF8:             cbor.UTF8DecodeInvalid, // file names are bytes
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
		MaxNestedLevels:  32,
		MaxArrayElements: 1 << 20,
		MaxMapPairs:      1 << 20,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return enc, dec
}

// Raw is an encoded value. Strings need not be valid UTF-8 and come out as they went in, like times with nanoseconds.
type Raw []byte

// Encode encodes a value.
func Encode(v any) (Raw, error) {
	var b bytes.Buffer
	if err := encoding.MarshalToBuffer(v, &b); err != nil {
		return nil, fmt.Errorf("encoding %T: %w", v, err)
	}
	return b.Bytes(), nil
}

// Decode decodes the value into what into points to. Fields that into does not have are ignored. Without a value (an empty
// Raw), into stays as it is.
func (r Raw) Decode(into any) error {
	if len(r) == 0 {
		return nil
	}
	if err := decoding.Unmarshal(r, into); err != nil {
		return fmt.Errorf("decoding %T: %w", into, err)
	}
	return nil
}

// MarshalCBOR implements cbor.Marshaler.
func (r Raw) MarshalCBOR() ([]byte, error) { return cbor.RawMessage(r).MarshalCBOR() }

// UnmarshalCBOR implements cbor.Unmarshaler.
func (r *Raw) UnmarshalCBOR(data []byte) error {
	*r = bytes.Clone(data)
	return nil
}

// What a message is about. A call goes to the server, as does a cancel; notices and the reply come from there. Both sides
// send beats.
type kind uint8

const (
	kindBeat kind = iota + 1
	kindCall
	kindCancel
	kindNotice
	kindReply
)

// A message is what a frame carries: a length in four bytes, big-endian, then so many bytes of CBOR.
type message struct {
	Kind  kind   `cbor:"1,keyasint"`
	ID    uint64 `cbor:"2,keyasint,omitempty"`
	Verb  string `cbor:"3,keyasint,omitempty"`
	Body  Raw    `cbor:"4,keyasint,omitzero"`
	Error *Error `cbor:"5,keyasint,omitempty"`
}

const frameHeader = 4

// encodeFrame returns the frame of a value. The limit is the receiver's.
func encodeFrame(v any, limit int) ([]byte, error) {
	var b bytes.Buffer
	b.Write(make([]byte, frameHeader))
	if err := encoding.MarshalToBuffer(v, &b); err != nil {
		return nil, err
	}
	n := b.Len() - frameHeader
	if n > limit {
		return nil, fmt.Errorf("%d bytes are too many for one message (%d)", n, limit)
	}
	binary.BigEndian.PutUint32(b.Bytes(), uint32(n))
	return b.Bytes(), nil
}

// readFrame reads a frame into what v points to. The buffer grows with what arrives, whatever the header claims. The error
// is io.EOF only between frames.
func readFrame(r io.Reader, limit int, v any) error {
	var header [frameHeader]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(header[:]))
	if n > int64(limit) {
		return malformed("a message of %d bytes, where %d are allowed", n, limit)
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, n); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if err := decoding.Unmarshal(b.Bytes(), v); err != nil {
		return malformed("%v", err)
	}
	return nil
}

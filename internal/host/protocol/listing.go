package protocol

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

// A Listing is a btrfs.Listing as it travels: as CBOR maps, thousands of subvolumes take longer to encode and decode than to be found.
type Listing struct {
	Top    btrfs.UUID
	Names  []string // of all
	Record []byte   // the rest of each, recordSize bytes
	In     []int    // the indexes of those in the directory
}

const recordSize = 1 + 8*8 + 3*16 + 3*12

var order = binary.BigEndian

// Pack packs a listing.
func Pack(l btrfs.Listing) Listing {
	p := Listing{Top: l.Top, Names: make([]string, len(l.All)), Record: make([]byte, 0, len(l.All)*recordSize)}
	in := make(map[uint64]bool, len(l.InDirectory))
	for i := range l.InDirectory {
		in[l.InDirectory[i].ID] = true
	}
	for i := range l.All {
		s := &l.All[i]
		p.Names[i], p.Record = s.Name, appendRecord(p.Record, s)
		if in[s.ID] {
			p.In = append(p.In, i)
		}
	}
	return p
}

func appendRecord(b []byte, s *btrfs.Subvolume) []byte {
	flags := byte(0)
	for i, is := range [...]bool{s.ReadOnly, s.Default, s.Mounted} {
		if is {
			flags |= 1 << i
		}
	}
	b = append(b, flags)
	for _, n := range [...]uint64{s.ID, s.Container, s.DirID, s.ChangedIn, s.CreatedIn, s.SentIn, s.ReceivedIn, s.AlteredIn} {
		b = order.AppendUint64(b, n)
	}
	for _, uuid := range [...]btrfs.UUID{s.UUID, s.ParentUUID, s.ReceivedUUID} {
		b = append(b, uuid[:]...)
	}
	for _, t := range [...]time.Time{s.Changed, s.Created, s.ReceivedAt} {
		b = order.AppendUint32(order.AppendUint64(b, uint64(t.Unix())), uint32(t.Nanosecond()))
	}
	return b
}

var errMalformed = errors.New("the listing is malformed")

// Unpack gives the listing.
func (p Listing) Unpack() (btrfs.Listing, error) {
	l := btrfs.Listing{Top: p.Top}
	if len(p.Record) != len(p.Names)*recordSize {
		return l, errMalformed
	}
	l.All = make([]btrfs.Subvolume, len(p.Names))
	for i := range l.All {
		l.All[i] = decodeRecord(p.Record[i*recordSize:])
		l.All[i].Name = p.Names[i]
	}
	l.InDirectory = make([]btrfs.Subvolume, len(p.In))
	for i, at := range p.In {
		if at < 0 || at >= len(l.All) {
			return l, errMalformed
		}
		l.InDirectory[i] = l.All[at]
	}
	return l, nil
}

func decodeRecord(b []byte) (s btrfs.Subvolume) {
	for i, is := range [...]*bool{&s.ReadOnly, &s.Default, &s.Mounted} {
		*is = b[0]&(1<<i) != 0
	}
	b = b[1:]
	for _, n := range [...]*uint64{&s.ID, &s.Container, &s.DirID, &s.ChangedIn, &s.CreatedIn, &s.SentIn, &s.ReceivedIn, &s.AlteredIn} {
		*n, b = order.Uint64(b), b[8:]
	}
	for _, uuid := range [...]*btrfs.UUID{&s.UUID, &s.ParentUUID, &s.ReceivedUUID} {
		*uuid, b = btrfs.UUID(b[:16]), b[16:]
	}
	for _, t := range [...]*time.Time{&s.Changed, &s.Created, &s.ReceivedAt} {
		*t, b = time.Unix(int64(order.Uint64(b)), int64(order.Uint32(b[8:]))), b[12:]
	}
	return s
}

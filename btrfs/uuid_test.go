package btrfs_test

import (
	"encoding/json"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/btrfs"
)

func TestUUIDIsReadBackFromItsText(t *testing.T) {
	some := btrfs.UUID{0x5f, 0x59, 0x52, 0x7c, 0xe1, 0xb8, 0x73, 0x42, 0x95, 0x92, 0x45, 0xb3, 0x8a, 0x87, 0xee, 0x6b}
	tests := []struct {
		uuid     btrfs.UUID
		text     string
		readable string
	}{
		{some, "5f59527c-e1b8-7342-9592-45b38a87ee6b", "5f59527c-e1b8-7342-9592-45b38a87ee6b"},
		{btrfs.UUID{}, "", "-"},
	}
	for _, test := range tests {
		text, err := test.uuid.MarshalText()
		check(t, err)
		if string(text) != test.text || test.uuid.String() != test.readable {
			t.Errorf("written as %q, told as %q, want %q and %q", text, test.uuid, test.text, test.readable)
		}
		back := some // what was there is replaced
		check(t, back.UnmarshalText(text))
		if back != test.uuid {
			t.Errorf("read back as %s, want %s", back, test.uuid)
		}
	}
}

func TestUUIDRefusesOtherText(t *testing.T) {
	for _, text := range []string{"5f59527c", "5f59527c-e1b8-7342-9592-45b38a87ee6", "5f59527c-e1b8-7342-9592-45b38a87ee6b00", "home", "zz59527c-e1b8-7342-9592-45b38a87ee6b"} {
		u := btrfs.UUID{1}
		if err := u.UnmarshalText([]byte(text)); err == nil || u != (btrfs.UUID{1}) {
			t.Errorf("%q is read as %s, error: %v", text, u, err)
		}
	}
}

func TestUUIDCanBeAKeyInJSON(t *testing.T) {
	want := map[btrfs.UUID]btrfs.UUID{{1}: {2}, {3}: {}}
	content, err := json.Marshal(want)
	check(t, err)
	var got map[btrfs.UUID]btrfs.UUID
	check(t, json.Unmarshal(content, &got))
	if len(got) != len(want) || got[btrfs.UUID{1}] != want[btrfs.UUID{1}] || got[btrfs.UUID{3}] != want[btrfs.UUID{3}] {
		t.Errorf("%s is read as %v", content, got)
	}
}

func TestIdentityIsTheReceivedUUIDOfACopy(t *testing.T) {
	uuid, received := btrfs.UUID{1}, btrfs.UUID{2}
	if got := (btrfs.Subvolume{UUID: uuid}).Identity(); got != uuid {
		t.Errorf("of an original: %s", got)
	}
	if got := (btrfs.Subvolume{UUID: uuid, ReceivedUUID: received}).Identity(); got != received {
		t.Errorf("of a copy: %s", got)
	}
}

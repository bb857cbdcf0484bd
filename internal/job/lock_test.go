package job

import (
	"maps"
	"strings"
	"testing"

	"github.com/btrfs-backup/btrfs-backup/internal/object"
)

func TestALockThatProtectsNothingIsRefused(t *testing.T) {
	for places, refused := range map[string]bool{
		"store:/x": true, "/x": true, "s3://localhost/bucket/x": false, "store:/x s3://localhost/bucket/x": false,
	} {
		s := Default()
		s.Source, s.Stores.Lock = Local{"/home"}, object.Compliance
		for _, text := range strings.Fields(places) {
			p, err := ParsePlace(text)
			if err != nil {
				t.Fatal(err)
			}
			s.Destinations = append(s.Destinations, p)
		}
		if got := strings.Contains(complaints(s.Check()), "can lock anything"); got != refused {
			t.Errorf("%s: refused: %t", places, got)
		}
	}
}

func complaints(c Complaints) string {
	if err := c.Err(); err != nil {
		return err.Error()
	}
	return ""
}

func TestStorageClassesAreByUnits(t *testing.T) {
	for text, want := range map[string]map[string]string{
		"": {}, "y=GLACIER_IR": {"y": "GLACIER_IR"}, "y=GLACIER_IR, q=STANDARD_IA": {"y": "GLACIER_IR", "q": "STANDARD_IA"},
		"y": nil, "y=": nil, "x=A": nil, "year=A": nil, "y=A,y=B": nil, "y=A,": nil,
	} {
		got, err := (&Stores{Classes: text}).classes()
		if (err != nil) != (want == nil) || !maps.Equal(got, want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

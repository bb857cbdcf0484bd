package process

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/btrfs-backup/btrfs-backup/btrfs/btrfstest"
)

func TestThePathHasNoEmptyElement(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"":                    "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		":":                   "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"/usr/bin::/bin:":     "/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
		"/opt/bin:/usr/sbin":  "/opt/bin:/usr/sbin:/usr/local/sbin:/sbin",
		"/sbin:/usr/bin:/bin": "/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin",
	} {
		if got := UsablePath(path); got != want {
			t.Errorf("%q becomes %q, want %q", path, got, want)
		}
	}
}

func TestTimeZonesInPOSIXFormAreThoseOfDate(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"CET-1CEST,M3.5.0,M10.5.0/3", "<+0545>-5:45", "XYZ3", "AEST-10AEDT,M10.1.0,M4.1.0/3", "NST3:30NDT,M3.2.0,M11.1.0",
		"UTC0", "WGT3WGST,M3.5.0/-2,M10.5.0/-1", "JST-9JDT,J60,J300/25", "Foo/Bar", "nonsense"} {
		location, err := POSIXZone(zone)
		btrfstest.Check(t, err)
		for month := range 24 {
			at := time.Date(2026, time.January, 29, 0, 30, 0, 0, time.UTC).AddDate(0, month, month)
			cmd := exec.Command("date", "-d", fmt.Sprintf("@%d", at.Unix()), "+%Y%m%d-%H%M%S")
			cmd.Env = []string{"TZ=" + zone}
			want, err := cmd.Output()
			btrfstest.Check(t, err)
			if got := at.In(location).Format("20060102-150405"); got != strings.TrimSpace(string(want)) {
				t.Errorf("%s: %s is %s, but date says %s", zone, at, got, want)
			}
		}
	}
}

package mirror

import "strings"

const rsyncScheme = "rsync://"

// cutDaemon cuts rsync://[user@]host[:port]/module/directory before the slash that begins the module.
func cutDaemon(url string) (daemon, rest string) {
	address := strings.TrimPrefix(url, rsyncScheme)
	if slash := strings.IndexByte(address, '/'); slash >= 0 {
		return rsyncScheme + address[:slash], address[slash:]
	}
	return rsyncScheme + address, ""
}

// undashed keeps a daemon from taking a directory for an option.
func undashed(dir string) string {
	if strings.HasPrefix(dir, "-") {
		return "./" + dir
	}
	return dir
}

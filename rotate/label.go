package rotate

import (
	"logfs/ring/record"
)

// Suffixes of archives.
const (
	complete  = ".s"
	recovered = ".u"
)

// archiveName is the name of the archive with the given label and suffix.
func archiveName(label record.Stamp, suffix string) string {
	return string(record.AppendStamp(nil, label)) + suffix
}

// parseArchive takes the name of an archive apart. It accepts only what
// archiveName can have made, so whatever else is in a logdir is left alone.
func parseArchive(name string) (label record.Stamp, suffix string, ok bool) {
	if len(name) != record.StampLen+len(complete) {
		return 0, "", false
	}
	label, ok = record.ParseStamp([]byte(name))
	suffix = name[record.StampLen:]
	return label, suffix, ok && (suffix == complete || suffix == recovered)
}

// nextLabelLocked returns the label for current: not before its last line, and
// after every label in the directory, whatever the clock says.
func (d *Logdir) nextLabelLocked() record.Stamp {
	return max(d.opt.Now(), d.last, d.label+1)
}

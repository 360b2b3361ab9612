package outbox

import "time"

// Looking has a worker look where its queue begins whenever a patrol takes as long as slow; negative: in any case.
func (s Settings) Looking(slow, interval, patrols time.Duration) Settings {
	s.looking = looking{slow: slow, interval: interval, patrols: patrols}
	return s
}

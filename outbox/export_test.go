package outbox

import "time"

// Calling has other times of calls.
func (s Settings) Calling(watch, pause time.Duration) Settings {
	s.calling = calling{watch: watch, pause: pause, poll: 10 * time.Millisecond}
	return s
}

// Looking has a worker look where its queue begins whenever a patrol takes as long as slow; negative: in any case.
func (s Settings) Looking(slow, interval, patrols time.Duration) Settings {
	s.looking = looking{slow: slow, interval: interval, patrols: patrols}
	return s
}

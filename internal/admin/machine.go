package admin

import "slices"

// state is a state of a machine, and where its picture has it.
type state struct {
	name     string
	col, row int
}

// machine is a picture of the states of a payment or a reservation, with the way that one took.
type machine struct {
	Way           []string // the states that it certainly had, in order
	Width, Height int
	States        []drawnState
	Steps         []drawnStep
}

type drawnState struct {
	Name         string
	Class        string // "", "past" or "here"
	X, Y         int
	TextX, TextY int
}

type drawnStep struct {
	Taken          bool
	X1, Y1, X2, Y2 int
}

// Measures of the picture.
const (
	stateWidth, stateHeight = 92, 30
	columnWidth, rowHeight  = 128, 46
)

// draw makes the picture. A step is taken if the way has both of its states, one right after the other.
func draw(states []state, steps [][2]string, way []string) machine {
	m := machine{Way: way}
	at := make(map[string]drawnState, len(states))
	for _, s := range states {
		drawn := drawnState{Name: s.name, X: 2 + s.col*columnWidth, Y: 2 + s.row*rowHeight}
		drawn.TextX, drawn.TextY = drawn.X+stateWidth/2, drawn.Y+stateHeight/2+5
		if slices.Contains(way, s.name) {
			drawn.Class = "past"
		}
		if way[len(way)-1] == s.name {
			drawn.Class = "here"
		}
		m.Width, m.Height = max(m.Width, drawn.X+stateWidth+2), max(m.Height, drawn.Y+stateHeight+2)
		m.States = append(m.States, drawn)
		at[s.name] = drawn
	}
	for _, step := range steps {
		from, to := at[step[0]], at[step[1]]
		i := slices.Index(way, step[0])
		drawn := drawnStep{Taken: i >= 0 && i+1 < len(way) && way[i+1] == step[1]}
		if from.X == to.X { // one above the other
			drawn.X1, drawn.Y1, drawn.X2, drawn.Y2 = from.TextX, from.Y+stateHeight, to.TextX, to.Y
			if from.Y > to.Y {
				drawn.Y1, drawn.Y2 = from.Y, to.Y+stateHeight
			}
		} else {
			drawn.X1, drawn.Y1 = from.X+stateWidth, from.Y+stateHeight/2
			drawn.X2, drawn.Y2 = to.X, to.Y+stateHeight/2
		}
		m.Steps = append(m.Steps, drawn)
	}
	return m
}

// paymentMachine draws a payment's states: only one way leads to each of them.
func paymentMachine(status string) machine {
	ways := map[string][]string{
		"pending": {"pending"}, "declined": {"pending", "declined"}, "authorized": {"pending", "authorized"},
	}
	way, ok := ways[status]
	if !ok {
		way = []string{"pending", "authorized", status}
	}
	return draw(
		[]state{{"pending", 0, 0}, {"authorized", 1, 0}, {"declined", 1, 1}, {"captured", 2, 0}, {"voided", 2, 1},
			{"expired", 2, 2}},
		[][2]string{{"pending", "authorized"}, {"pending", "declined"}, {"authorized", "captured"},
			{"authorized", "voided"}, {"authorized", "expired"}}, way)
}

// reservationMachine draws a reservation's states, and tells whether it may have had others before the last one:
// nothing is kept that says so.
func reservationMachine(status string, waited bool) (m machine, maybe string) {
	way := []string{"pending"}
	if waited {
		way = append(way, "waiting")
	}
	switch {
	case status == "pending" || status == "waiting":
	case status == "cancelled" && waited:
		maybe = "It was cancelled while it waited, or when it was held or confirmed."
	case status == "cancelled":
		way = append(way, "held")
		maybe = "It was cancelled when it was held, or when it was confirmed."
	case status == "expired" && waited:
		maybe = "It expired while it waited, or when it was held."
	case status == "expired" || status == "confirmed":
		way = append(way, "held")
	}
	if way[len(way)-1] != status {
		way = append(way, status)
	}
	m = draw(
		[]state{{"pending", 0, 1}, {"waiting", 1, 0}, {"held", 1, 1}, {"rejected", 1, 2}, {"expired", 2, 0},
			{"confirmed", 2, 1}, {"cancelled", 2, 2}},
		[][2]string{{"pending", "waiting"}, {"pending", "held"}, {"pending", "rejected"}, {"waiting", "held"},
			{"waiting", "expired"}, {"waiting", "cancelled"}, {"held", "confirmed"}, {"held", "cancelled"},
			{"held", "expired"}, {"confirmed", "cancelled"}}, way)
	if maybe != "" {
		m.forgetLast()
	}
	return m, maybe
}

// forgetLast leaves the last step out of the way that is drawn: it is not known.
func (m *machine) forgetLast() {
	here := m.States[slices.IndexFunc(m.States, func(s drawnState) bool { return s.Class == "here" })]
	for i := range m.Steps {
		if s := &m.Steps[i]; s.X2 == here.X && s.Y2 == here.Y+stateHeight/2 {
			s.Taken = false
		}
	}
}

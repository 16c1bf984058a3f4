package lambdatest

// environment is an execution environment: it runs one invocation at a time.
type environment interface {
	// do runs an invocation to its end. It was not delivered if the environment
	// had ended before it took it.
	do(i *invocation) (r Response, delivered bool)
	// kill ends the environment, at once.
	kill()
}

// pool is the environments of one version that run nothing.
type pool struct {
	// idle wait for an invocation; the last one is used first.
	idle []environment
	// settling is how many have answered and are about to be idle, or to end.
	// They are waited for, or each fast invocation would start one more.
	settling int
	waiters  []chan environment // of those who wait for one, each with room for one
}

func (f *function) pool(version string) *pool {
	p := f.pools[version]
	if p == nil {
		p = &pool{}
		f.pools[version] = p
	}
	return p
}

// acquire takes one of the invocations that may run at once. It returns an
// environment for it, or nil if one is to be started.
func (f *function) acquire(version string) (environment, *Error) {
	f.mu.Lock()
	if f.running >= f.Concurrency {
		f.mu.Unlock()
		return nil, Throttled
	}
	f.running++
	f.stats.MostConcurrent = max(f.stats.MostConcurrent, f.running)
	p := f.pool(version)
	if n := len(p.idle); n > 0 {
		e := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		f.mu.Unlock()
		return e, nil
	}
	if p.settling <= len(p.waiters) {
		f.mu.Unlock()
		return nil, nil
	}
	w := make(chan environment, 1)
	p.waiters = append(p.waiters, w)
	f.mu.Unlock()
	return <-w, nil
}

// release ends an invocation.
func (f *function) release(r Response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running--
	f.stats.Invocations++
	if r.FunctionError != "" {
		f.stats.Errors++
	}
}

// ready takes an environment that can run an invocation. f.mu is held.
func (p *pool) ready(e environment) {
	if len(p.waiters) == 0 {
		p.idle = append(p.idle, e)
		return
	}
	p.waiters[0] <- e
	p.waiters = p.waiters[1:]
}

// settled is called when one that was settling is idle, or has ended (nil).
// f.mu is held.
func (p *pool) settled(e environment) {
	p.settling--
	switch {
	case e != nil:
		p.ready(e)
	case len(p.waiters) > p.settling:
		p.ready(nil) // there is a waiter too many: it starts one
	}
}

// forget drops an environment that ended while it was idle. f.mu is held.
func (p *pool) forget(e environment) {
	for i := range p.idle {
		if p.idle[i] == e {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return
		}
	}
}

// start starts an environment for an invocation. If it cannot be, the response
// says why.
func (f *function) start(version string) (environment, *Response) {
	f.count(func(s *Stats) { s.ColdStarts++ })
	if f.Handler != nil {
		return &local{function: f, version: version}, nil
	}
	return f.startProcess(version)
}

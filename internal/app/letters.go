package app

import "net/http"

func (p *program) handleLetters(*http.ServeMux) {}

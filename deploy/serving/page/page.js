// the page is on its way

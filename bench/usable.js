// When a page became usable, and what it weighs. For browser.py, which evaluates it in the page.
() => new Promise(done => {
    let shift = 0
    new PerformanceObserver(list => { for (const entry of list.getEntries()) shift += entry.value })
        .observe({type: 'layout-shift', buffered: true})
    const [page] = performance.getEntriesByType('navigation')
    const files = [page, ...performance.getEntriesByType('resource')]
    setTimeout(() => done({
        began: performance.timeOrigin,
        usable: performance.timeOrigin + page.domContentLoadedEventEnd,
        bytes: files.reduce((sum, file) => sum + file.decodedBodySize, 0),
        elsewhere: files.filter(file => !file.name.startsWith(location.origin)).length,
        shift: shift,
    }), 100)
})

"""Draws bars with ranges, as SVG."""

from html import escape

WIDTH, LABELS, BAR, PANEL_HEAD = 860, 220, 26, 44
OURS, OTHERS, FLOOR = "#0b7285", "#adb5bd", "#dee2e6"


def picture(panels):
    height = 12 + sum(PANEL_HEAD + BAR * len(bars) for _, bars in panels)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="14">',
             f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    top = 0
    for title, bars in panels:
        parts += panel(title, bars, top)
        top += PANEL_HEAD + BAR * len(bars)
    return "\n".join([*parts, "</svg>"]) + "\n"


def panel(title, bars, top):
    yield f'<text x="12" y="{top + 28}" font-weight="600" fill="#212529">{escape(title)}</text>'
    # The scale leaves space for the figure behind the longest bar.
    scale = (WIDTH - LABELS - 110) / max(high for *_, high in bars)
    for row, (label, middle, low, high) in enumerate(bars):
        y = top + PANEL_HEAD - 4 + row * BAR
        colour = OURS if label.startswith("Papo") else FLOOR if label == "floor" else OTHERS
        yield f'<text x="{LABELS - 10}" y="{y + 15}" text-anchor="end" fill="#212529">{escape(label)}</text>'
        yield f'<rect x="{LABELS}" y="{y + 1}" width="{max(middle * scale, 1):.1f}" height="{BAR - 7}" rx="2" fill="{colour}"/>'
        if high > low:
            yield (f'<path d="M{LABELS + low * scale:.1f} {y + 10.5}H{LABELS + high * scale:.1f}" stroke="#212529" '
                   'stroke-width="1.5"/>')
        yield f'<text x="{LABELS + high * scale + 8:.1f}" y="{y + 15}" fill="#495057">{figure(middle)}</text>'


def figure(number):
    return f"{float(f'{number:.3g}'):,.0f}" if number >= 100 else f"{number:.3g}"

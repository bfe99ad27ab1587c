"""The chart of calls a second: a bar for each peer and concurrency. Colours follow the reader's light or dark scheme."""

LEFT, WIDTH, BAR, GAP, TOP = 170, 760, 13, 14, 64
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px } .small { font-size: 11px; fill: #57606a }
  .first { fill: #8aa9d6 } .second { fill: #2f63b3 } .redial.first { fill: #f0a878 } .redial.second { fill: #d2571b }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b1 } .first { fill: #41618f } .second { fill: #7aa7ec }
    .redial.first { fill: #9a4d22 } .redial.second { fill: #f58b4c }
  }"""


def draw(table, started):
    """Fastest first, by the highest concurrency."""
    levels = sorted({row["at_once"] for row in table})[-2:]
    names = sorted({row["peer"] for row in table}, key=lambda name: -rate(table, name, levels[-1]))
    most = max(row["rate"] for row in table)
    step = BAR * len(levels) + GAP
    height = TOP + step * len(names) + 10
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Calls a second">',
             f"<style>{STYLE}</style>",
             '<text class="title" x="10" y="22">Calls a second, upstream that responds at once, 2 cores for all</text>',
             f'<text class="small" x="10" y="42">{started[:10]}; pale: {levels[0]} at a time, strong: {levels[-1]} at a time; '
             "medians of interleaved rounds</text>"]
    for index, name in enumerate(names):
        top = TOP + index * step
        lines.append(f'<text x="{LEFT - 10}" y="{top + BAR * len(levels) / 2 + 5:.0f}" text-anchor="end">{name}</text>')
        for place, level in enumerate(levels):
            value = rate(table, name, level)
            if not value:
                continue
            width = max(1, value / most * (WIDTH - LEFT - 70))
            colour = ("first", "second")[place - len(levels)] + (" redial" if name == "Redial" else "")
            y = top + place * BAR
            lines.append(f'<rect class="{colour}" x="{LEFT}" y="{y}" width="{width:.0f}" height="{BAR - 1}"/>')
            lines.append(f'<text class="small" x="{LEFT + width + 6:.0f}" y="{y + 10}">{value:,.0f}</text>')
    return "\n".join([*lines, "</svg>", ""])


def rate(table, name, at_once):
    return next((row["rate"] for row in table if (row["peer"], row["at_once"]) == (name, at_once)), 0)

"""The page's style. Its colours are told apart by colour-blind readers too; shape and width say the same.

After Okabe, Ito: "Color Universal Design", 2008. On paper the light colours hold.
"""

LIGHT = """\
--paper:#fff;--ink:#1b1f24;--soft:#5b6470;--line:#dfe3e8;--faint:#eef1f4;--card:#f7f8fa;
--before:#c3cad3;--after:#0072b2;--critical:#c43e00;--warning:#b07600;--calm:#00795a;
--m0:#0072b2;--m1:#00875f;--m2:#b8518f;--m3:#9a6a00;--m4:#2e8fc7;--m5:#c43e00;"""
DARK = """\
--paper:#14171b;--ink:#e8ebef;--soft:#9aa4b0;--line:#2d333b;--faint:#22272e;--card:#1b1f25;
--before:#4d5663;--after:#56b4e9;--critical:#ff8a4c;--warning:#f0b93a;--calm:#3fc79c;
--m0:#56b4e9;--m1:#3fc79c;--m2:#e39ac6;--m3:#e69f00;--m4:#9fd3f2;--m5:#ff8a4c;"""
STYLE = f"""
:root{{color-scheme:light;{LIGHT}}}
@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{DARK}}}}}
@media print{{:root{{color-scheme:light;{LIGHT}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;
font-variant-numeric:tabular-nums}}
main{{max-width:1080px;margin:0 auto;padding:32px 20px 64px}}
h1{{font-size:1.65rem;line-height:1.2;margin:0;letter-spacing:-.01em}}
h2{{font-size:1.15rem;margin:48px 0 12px;padding-top:16px;border-top:1px solid var(--line)}}
h3{{font-size:1.05rem;margin:0;line-height:1.35}}
h4{{font-size:.82rem;margin:22px 0 8px;color:var(--soft);font-weight:600}}
p{{margin:6px 0}} a{{color:inherit;text-underline-offset:3px;text-decoration-color:var(--soft)}}
code,.place{{font:.86em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}}
.soft,.period,figcaption,footer{{color:var(--soft)}} .period{{margin:4px 0 20px}}
.status{{border-left:5px solid var(--tone);background:var(--card);padding:14px 18px;border-radius:0 6px 6px 0}}
.status strong{{color:var(--tone);font-size:1.15rem;display:block}} .status p{{margin:2px 0 0;max-width:78ch}}
.calm{{--tone:var(--calm)}} .warning{{--tone:var(--warning)}} .critical{{--tone:var(--critical)}}
.figures{{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:16px 24px;margin:24px 0 0}}
.figures dt,.facts dt{{color:var(--soft);font-size:.82rem}} .figures dd{{margin:0;font-size:1.3rem;line-height:1.25}}
.figures small{{display:block;font-size:.82rem;color:var(--soft)}}
.facts{{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px 24px;margin:14px 0 0}}
.facts dd{{margin:0}} .facts small{{display:block;color:var(--soft)}}
figure{{margin:0}} figcaption{{font-size:.85rem;margin-top:6px}} svg{{display:block;width:100%;height:auto}}
.scroll{{overflow-x:auto}} .scroll .timeline{{min-width:760px}}
table{{border-collapse:collapse;width:100%;font-size:.88rem}}
caption{{text-align:left;color:var(--soft);padding-bottom:4px}}
th,td{{text-align:left;vertical-align:top;padding:6px 14px 6px 0;border-bottom:1px solid var(--line)}}
th{{font-weight:600;color:var(--soft)}} .n{{text-align:right;white-space:nowrap}} td.when{{white-space:nowrap}}
article{{border:1px solid var(--line);border-top:3px solid var(--tone);border-radius:6px;padding:18px 20px;
margin:20px 0}}
.badge{{color:var(--tone);font-weight:600;font-size:.85rem;white-space:nowrap}}
article>.soft{{font-size:.85rem;margin:2px 0 8px}}
.grid3{{display:grid;grid-template-columns:repeat(auto-fill,minmax(280px,1fr));gap:22px 28px}}
.grid3 b{{font-weight:600}} .key{{font-size:.85rem;color:var(--soft);margin:0 0 12px}}
.key i{{display:inline-block;height:.7em;margin-right:6px}} .key .b{{width:1.3em;background:var(--before)}}
.key .a{{width:.45em;background:var(--after);margin-left:14px}}
details{{margin-top:12px}} summary{{cursor:pointer;color:var(--soft);font-size:.88rem}}
td code{{display:inline-block;min-width:10em}}
ol{{margin:4px 0;padding-left:1.4em}}
.meter{{display:inline-block;height:.62em;background:var(--after);vertical-align:baseline}}
footer{{margin-top:48px;padding-top:16px;border-top:1px solid var(--line);font-size:.85rem}}
svg text{{font:11px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}}
svg text{{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}}
svg .note{{fill:var(--soft)}} svg .head{{font-weight:600;fill:var(--soft)}} svg .label{{font-size:11.5px}}
.grid{{stroke:var(--faint)}} .axis{{stroke:var(--soft)}} rect.before{{fill:var(--before)}}
rect.after{{fill:var(--after)}}
.line{{fill:none;stroke-width:1.6;stroke-linejoin:round;stroke-linecap:round}}
.raw{{stroke:var(--ink);opacity:.22;stroke-width:1}} .plain{{stroke:var(--soft)}} .volume{{fill:var(--before)}}
.line.served{{stroke:var(--ink);stroke-width:2.4}} text.served{{font-weight:700}}
.m0{{--c:var(--m0)}} .m1{{--c:var(--m1)}} .m2{{--c:var(--m2)}} .m3{{--c:var(--m3)}} .m4{{--c:var(--m4)}}
.m5{{--c:var(--m5)}}
.line[class*=" m"]{{stroke:var(--c)}} svg text[class*=" m"]{{fill:var(--c)}}
.line.m0{{stroke-dasharray:6 3}} .line.m2{{stroke-dasharray:2 3}} .line.m3{{stroke-dasharray:9 3 2 3}}
.line.m4{{stroke-dasharray:1 4}}
.alert{{--c:var(--warning)}} .alert.critical{{--c:var(--critical)}} .bar{{fill:var(--c)}}
.over .bar{{fill:none;stroke:var(--c);stroke-width:1.5}} .shade{{fill:var(--critical);opacity:.06}}
.since{{stroke:var(--c);stroke-width:1.2;stroke-dasharray:4 3}}
.hit{{fill:transparent}} .hit:hover{{fill:var(--ink);opacity:.06}}
.version path{{fill:var(--paper);stroke:var(--ink);stroke-width:1.4}} .version.champion path{{fill:var(--ink)}}
.version.retired path{{fill:none}} .version.registered text,.version.shadow text{{fill:var(--soft)}}
@media print{{body{{font-size:10.5pt}} main{{max-width:none;padding:0}} article,figure,tr{{break-inside:avoid}}
h2,h3,h4{{break-after:avoid}} details{{display:none}}
 .scroll{{overflow:visible}} table{{font-size:8.5pt}} td.when,.n{{white-space:normal}} td.when{{min-width:6.5em}}
.grid3{{grid-template-columns:repeat(3,1fr)}}
.figures{{grid-template-columns:repeat(6,1fr)}} .scroll .timeline{{min-width:0}}
*{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}}}
"""

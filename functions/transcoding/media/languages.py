"""Languages: the codes that containers have (ISO 639-2) and the tags that playlists have (BCP 47)."""

from __future__ import annotations

import re

#: ISO 639-1, which is the BCP 47 tag; ISO 639-2/T; the name in English.
_LANGUAGES = """
aa aar Afar; ab abk Abkhazian; ae ave Avestan; af afr Afrikaans; ak aka Akan; am amh Amharic;
an arg Aragonese; ar ara Arabic; as asm Assamese; av ava Avaric; ay aym Aymara; az aze Azerbaijani;
ba bak Bashkir; be bel Belarusian; bg bul Bulgarian; bi bis Bislama; bm bam Bambara; bn ben Bengali;
bo bod Tibetan; br bre Breton; bs bos Bosnian; ca cat Catalan; ce che Chechen; ch cha Chamorro;
co cos Corsican; cr cre Cree; cs ces Czech; cu chu Church Slavic; cv chv Chuvash; cy cym Welsh;
da dan Danish; de deu German; dv div Divehi; dz dzo Dzongkha; ee ewe Ewe; el ell Greek;
en eng English; eo epo Esperanto; es spa Spanish; et est Estonian; eu eus Basque; fa fas Persian;
ff ful Fulah; fi fin Finnish; fj fij Fijian; fo fao Faroese; fr fra French; fy fry Western Frisian;
ga gle Irish; gd gla Scottish Gaelic; gl glg Galician; gn grn Guarani; gu guj Gujarati; gv glv Manx;
ha hau Hausa; he heb Hebrew; hi hin Hindi; ho hmo Hiri Motu; hr hrv Croatian; ht hat Haitian;
hu hun Hungarian; hy hye Armenian; hz her Herero; ia ina Interlingua; id ind Indonesian;
ie ile Interlingue; ig ibo Igbo; ii iii Sichuan Yi; ik ipk Inupiaq; io ido Ido; is isl Icelandic;
it ita Italian; iu iku Inuktitut; ja jpn Japanese; jv jav Javanese; ka kat Georgian; kg kon Kongo;
ki kik Kikuyu; kj kua Kuanyama; kk kaz Kazakh; kl kal Kalaallisut; km khm Khmer; kn kan Kannada;
ko kor Korean; kr kau Kanuri; ks kas Kashmiri; ku kur Kurdish; kv kom Komi; kw cor Cornish;
ky kir Kirghiz; la lat Latin; lb ltz Luxembourgish; lg lug Ganda; li lim Limburgan; ln lin Lingala;
lo lao Lao; lt lit Lithuanian; lu lub Luba-Katanga; lv lav Latvian; mg mlg Malagasy;
mh mah Marshallese; mi mri Maori; mk mkd Macedonian; ml mal Malayalam; mn mon Mongolian;
mr mar Marathi; ms msa Malay; mt mlt Maltese; my mya Burmese; na nau Nauru; nb nob Norwegian Bokmål;
nd nde North Ndebele; ne nep Nepali; ng ndo Ndonga; nl nld Dutch; nn nno Norwegian Nynorsk;
no nor Norwegian; nr nbl South Ndebele; nv nav Navajo; ny nya Chichewa; oc oci Occitan;
oj oji Ojibwa; om orm Oromo; or ori Oriya; os oss Ossetian; pa pan Panjabi; pi pli Pali;
pl pol Polish; ps pus Pushto; pt por Portuguese; qu que Quechua; rm roh Romansh; rn run Rundi;
ro ron Romanian; ru rus Russian; rw kin Kinyarwanda; sa san Sanskrit; sc srd Sardinian;
sd snd Sindhi; se sme Northern Sami; sg sag Sango; si sin Sinhala; sk slk Slovak; sl slv Slovenian;
sm smo Samoan; sn sna Shona; so som Somali; sq sqi Albanian; sr srp Serbian; ss ssw Swati;
st sot Southern Sotho; su sun Sundanese; sv swe Swedish; sw swa Swahili; ta tam Tamil;
te tel Telugu; tg tgk Tajik; th tha Thai; ti tir Tigrinya; tk tuk Turkmen; tl tgl Tagalog;
tn tsn Tswana; to ton Tonga; tr tur Turkish; ts tso Tsonga; tt tat Tatar; tw twi Twi;
ty tah Tahitian; ug uig Uighur; uk ukr Ukrainian; ur urd Urdu; uz uzb Uzbek; ve ven Venda;
vi vie Vietnamese; vo vol Volapük; wa wln Walloon; wo wol Wolof; xh xho Xhosa; yi yid Yiddish;
yo yor Yoruba; za zha Zhuang; zh zho Chinese; zu zul Zulu
"""

#: ISO 639-2/B, which Matroska and broadcasting use where it differs, then /T; and FFmpeg's of QuickTime's.
_OTHER_CODES = """
alb sqi arm hye baq eus bur mya chi zho cze ces dut nld fre fra geo kat ger deu gre ell ice isl
mac mkd mao mri may msa per fas rum ron slo slk tib bod wel cym sve swe
"""

#: The codes that QuickTime has a number for are in part /T and in part these.
_QUICKTIME_CODES = "alb arm baq bur chi dut geo ger gre ice mac may per sve tib wel"

_ROWS = [entry.split(maxsplit=2) for entry in _LANGUAGES.split(";")]
_TAGS = {code: tag for tag, code, _ in _ROWS}
_CODES = {tag: code for tag, code, _ in _ROWS}
_NAMES = {tag: name for tag, _, name in _ROWS}
_OTHERS = _OTHER_CODES.split()
_TERMINOLOGY = dict(zip(_OTHERS[::2], _OTHERS[1::2], strict=True))
_QUICKTIME = {_TERMINOLOGY[code]: code for code in _QUICKTIME_CODES.split()}

_TAG = re.compile(r"([a-z]{2,3})((?:-[a-z0-9]{2,8})*)", re.IGNORECASE)
#: Undetermined, several, none, and not coded.
_NO_LANGUAGE = frozenset({"und", "mul", "zxx", "mis"})


def tag(code: str) -> str:
    """Return the BCP 47 tag of a container's code ("ger", "deu", "de", "pt-BR"); empty: it tells none."""
    match = _TAG.fullmatch(code.strip())
    if match is None:
        return ""
    language = match[1].lower()
    language = _TERMINOLOGY.get(language, language)
    if language in _NO_LANGUAGE or re.fullmatch("q[a-t][a-z]", language):
        return ""
    return _TAGS.get(language, language) + match[2]


def code(tag: str, *, quicktime: bool = False) -> str:
    """Return the ISO 639-2/T code of a tag, or what FFmpeg writes into `quicktime` files; "und" of no tag."""
    language = tag.partition("-")[0] or "und"
    language = _CODES.get(language, language)
    return _QUICKTIME.get(language, language) if quicktime else language


def name(tag: str) -> str:
    """Return what a viewer calls the language of a tag; the tag itself where no name is known here."""
    return _NAMES.get(tag, tag)

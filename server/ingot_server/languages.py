"""Names of languages: BCP 47 tags, ISO 639-2 codes, and what sources call languages.

This module imports only the standard library, because it also runs in the extraction child.
"""

from __future__ import annotations

import locale
import re
from collections.abc import Iterable
from typing import Final

_TAG: Final = re.compile(r"[A-Za-z0-9_-]{1,40}")
_WORD: Final = re.compile(r"[^\W\d_]+")
# Shorter words are codes themselves.
_NAME_LETTERS: Final = 4
_NO_LANGUAGES: Final = frozenset({"cextend", "posix", "univ", "universal"})
# Undetermined, several, none, and not coded (ISO 639-2).
_UNKNOWN: Final = frozenset({"", "und", "mul", "zxx", "mis"})

# ISO 639-1 and the terminological codes of ISO 639-2, then the bibliographic codes that differ.
_CODES: Final = """
aa=aar ab=abk ae=ave af=afr ak=aka am=amh an=arg ar=ara as=asm av=ava ay=aym az=aze ba=bak
be=bel bg=bul bi=bis bm=bam bn=ben bo=bod br=bre bs=bos ca=cat ce=che ch=cha co=cos cr=cre
cs=ces cu=chu cv=chv cy=cym da=dan de=deu dv=div dz=dzo ee=ewe el=ell en=eng eo=epo es=spa
et=est eu=eus fa=fas ff=ful fi=fin fj=fij fo=fao fr=fra fy=fry ga=gle gd=gla gl=glg gn=grn
gu=guj gv=glv ha=hau he=heb hi=hin ho=hmo hr=hrv ht=hat hu=hun hy=hye hz=her ia=ina id=ind
ie=ile ig=ibo ii=iii ik=ipk io=ido is=isl it=ita iu=iku ja=jpn jv=jav ka=kat kg=kon ki=kik
kj=kua kk=kaz kl=kal km=khm kn=kan ko=kor kr=kau ks=kas ku=kur kv=kom kw=cor ky=kir la=lat
lb=ltz lg=lug li=lim ln=lin lo=lao lt=lit lu=lub lv=lav mg=mlg mh=mah mi=mri mk=mkd ml=mal
mn=mon mr=mar ms=msa mt=mlt my=mya na=nau nb=nob nd=nde ne=nep ng=ndo nl=nld nn=nno no=nor
nr=nbl nv=nav ny=nya oc=oci oj=oji om=orm or=ori os=oss pa=pan pi=pli pl=pol ps=pus pt=por
qu=que rm=roh rn=run ro=ron ru=rus rw=kin sa=san sc=srd sd=snd se=sme sg=sag si=sin sk=slk
sl=slv sm=smo sn=sna so=som sq=sqi sr=srp ss=ssw st=sot su=sun sv=swe sw=swa ta=tam te=tel
tg=tgk th=tha ti=tir tk=tuk tl=tgl tn=tsn to=ton tr=tur ts=tso tt=tat tw=twi ty=tah ug=uig
uk=ukr ur=urd uz=uzb ve=ven vi=vie vo=vol wa=wln wo=wol xh=xho yi=yid yo=yor za=zha zh=zho
zu=zul
bo=tib cs=cze cy=wel de=ger el=gre eu=baq fa=per fr=fre hy=arm is=ice ka=geo mi=mao mk=mac
ms=may my=bur nl=dut ro=rum sk=slo sq=alb zh=chi
"""
_SHORT: Final = {long: short for short, long in (each.split("=") for each in _CODES.split())}


def language_tag(label: str) -> str:
    """Return the BCP 47 tag for a source's name of a language; empty if it is unknown.

    `pt_BR` is `pt-BR`, and `eng` (ISO 639-2) is `en`. A label may begin with a name that Python's
    `locale` knows: `English`, `English (CC)`, `Deutsch`.
    """
    word = _WORD.match(label)
    name = word[0].lower() if word else ""
    if len(name) >= _NAME_LETTERS and name not in _NO_LANGUAGES:
        alias = locale.locale_alias.get(name)
        if alias is not None:
            return alias.partition("_")[0]
    if not _TAG.fullmatch(label):
        return ""
    first, *rest = label.replace("_", "-").split("-")
    return "-".join([_SHORT.get(first.lower(), first), *rest])


def canonical_tag(tag: str) -> str:
    """Return a BCP 47 tag as RFC 5646 writes it, so that equal ones are the same text.

    The language has its shortest code (section 2.2.1), a script its first letter and a region all
    letters in upper case (section 2.1.1).
    """
    first, *rest = language_tag(tag).split("-")
    cased = {2: str.upper, 4: str.title}
    return "-".join([first.lower(), *(cased.get(len(each), str.lower)(each) for each in rest)])


def in_language(wanted: str, labels: Iterable[str]) -> frozenset[str]:
    """Return those of the sources' `labels` that are in the language `wanted`, a BCP 47 tag.

    These are the labels of exactly this language; if there are none, those of all variants of the
    same primary language: `en` and `en-GB` accept `en-US`.
    """
    tags = {label: language_tag(label).lower() for label in labels}
    tag = language_tag(wanted).lower()
    primary = _primary(tag)
    if primary in _UNKNOWN:
        return frozenset()
    exact = frozenset(label for label, each in tags.items() if each == tag)
    return exact or frozenset(label for label, each in tags.items() if _primary(each) == primary)


def _primary(tag: str) -> str:
    return tag.partition("-")[0]

"""Short forms of first names in use in the United States, and the names behind them."""

from __future__ import annotations

# One line a name: the full form, then what its bearers are called.
_CALLED = """
abigail abby gail
abraham abe
albert al bert
alexander alex al xander sandy
alexandra alex sandra sandy lexi
alfred al fred
alice allie
allison allie ally
amanda mandy
andrew andy drew
angela angie
anthony tony
arthur art
barbara barb barbie
benjamin ben benny
bernard bernie
beverly bev
bradley brad
calvin cal
cameron cam
carolyn carol carrie
cassandra cassie
catherine cathy kate cate
charles charlie chuck chas
christina tina chris chrissy
christine chris tina chrissy
christopher chris kit topher
clifford cliff
cynthia cindy
daniel dan danny
david dave davey
deborah deb debbie debra
dennis denny
donald don donnie
dorothy dot dottie
douglas doug
edward ed eddie ted ned
eleanor ellie nell
elizabeth liz beth betty eliza lizzie libby betsy
eugene gene
florence flo
frances fran frannie
francis frank
franklin frank
frederick fred freddie rick
gabriel gabe
gerald gerry jerry
gregory greg
harold hal harry
henry hank harry
isabella bella izzy
jacob jake
jacqueline jackie
james jim jimmy jamie
janet jan
jeffrey jeff
jennifer jen jenny jenn
jeremy jerry
jessica jess jessie
john jack johnny jon
jonathan jon johnny
joseph joe joey
joshua josh
judith judy
katherine kathy kate katie kat kathryn
kathleen kathy kate
kenneth ken kenny
kimberly kim
lawrence larry
leonard leo len lenny
lillian lily
linda lindy
louis lou
louise lou
madeline maddie
margaret maggie meg peggy marge margie greta
martha marty
martin marty
matthew matt
megan meg
melissa mel missy
michael mike mick mickey micah
michelle shelly
mildred millie
mitchell mitch
nancy nan
natalie nat
nathaniel nate nathan nat
nicholas nick nicky
norman norm
olivia liv
pamela pam
patricia pat patty trish tricia
patrick pat paddy
peter pete
philip phil
phillip phil
priscilla cilla
rachel rach
randall randy
raymond ray
rebecca becky becca
richard rick rich dick richie ricky
robert bob rob bobby robbie bert
roberta bobbie
rodney rod
ronald ron ronnie
rosemary rose
russell russ
ruth ruthie
samantha sam
samuel sam sammy
sandra sandy
sarah sally
sharon shari
solomon sol
stanley stan
stephanie steph
stephen steve
steven steve
stuart stu
susan sue susie suzy
tamara tammy
teresa terri tess
terrence terry
theodore ted teddy theo
theresa terri tess
thomas tom tommy
timothy tim timmy
valerie val
veronica ronnie
victor vic
victoria vicky tori
vincent vince vinny
virginia ginny
walter walt
wesley wes
william bill will billy willy liam
zachary zach
"""

_LINES = [line.split() for line in _CALLED.split("\n") if line]
_FULL_FORMS: dict[str, frozenset[str]] = {}
for _full, *_short in _LINES:
    for _name in (_full, *_short):
        _FULL_FORMS[_name] = _FULL_FORMS.get(_name, frozenset()) | {_full}
_SHORT_FORMS = {full: frozenset(short) for full, *short in _LINES}


def full_forms(first: str) -> frozenset[str]:
    """The names that a first name in lower case can stand for; itself where none is known."""
    return _FULL_FORMS.get(first) or frozenset((first,))


def forms(first: str) -> frozenset[str]:
    """Every name that somebody of this first name may go by, itself included."""
    full = full_forms(first)
    return full.union((first,), *(_SHORT_FORMS.get(each, ()) for each in full))


def is_known(first: str) -> bool:
    """Whether the list holds the name, as a full or a short form."""
    return first in _FULL_FORMS

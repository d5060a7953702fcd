"""Words that say nothing about a topic, by language; also what a message's language is guessed by. Pure data."""

ENGLISH = "english"

_LISTS = {
    ENGLISH: """a about above after again all also am an and any are aren as at be because been before being below
        between both but by can cannot could did do does doing down during each few for from further get gets getting
        got had has have having he her here hers herself him himself his how i if in into is it its itself just let me
        more most my myself no nor not now of off oh on once only or other our ours ourselves out over own please
        really same she should so some such than thank thanks that the their theirs them themselves then there these
        they this those through to too under until up us very was we were what when where which while who whom whose
        why will with would yeah yes you your yours yourself yourselves
        tell remember remind ok okay much many sure hi hey hello well maybe perhaps""",
    "german": """ab aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch
        auf aus bei beim bin bis bist bitte da damit dann danke das dass daß dazu dein deine deinem deinen deiner dem
        den denn der des dessen die dies diese diesem diesen dieser dieses dir doch dort du durch ein eine einem einen
        einer eines er es etwas euch euer eure für gegen gerade hab habe haben hast hat hatte hatten hier hin hinter
        ich ihm ihn ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jedem jeden jeder jedes jetzt kann kannst
        kein keine keinem keinen keiner können könnte mal man mein meine meinem meinen meiner mich mir mit muss musste
        nach nein nicht nichts noch nun nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind
        so soll sollte sondern sonst über um und uns unser unsere unter viel vom von vor war waren warst warum was
        weil welche welchem welchen welcher welches wenn wer werde werden wem wen wie wieder will wir wird wirst wo
        wurde wurden würde während zu zum zur zwar zwischen wann womit wofür wohin woher worüber""",
    "french": """ai aie ait alors après as au aucun aura aussi autre aux avait avant avec avez avoir avons c car ce cela
        ces cet cette ceux chez comme comment d dans de des donc dont du elle elles en encore entre est et étaient
        était êtes étre être eu eux fait fois ici il ils j je jusque l la le les leur leurs lui m ma mais me même mes
        moi mon n ne nos notre nous on ont ou où par parce pas pendant peu peut plus pour pourquoi qu quand que quel
        quelle quelles quels qui quoi s sa sans se sera ses si son sont sous sur t ta te tes toi ton tous tout toute
        toutes très tu un une vers vos votre vous y ça oui non merci""",
    "spanish": """a al algo alguna alguno ante antes aquí así aunque cada como con contra cual cuál cuales cuando cuándo
        cuánto cuántos de del desde donde dónde dos durante e el él ella ellas ellos en entre era eran eres es esa esas
        ese eso esos esta está están estaba estar este esto estos estoy fue fueron ha había han hasta hay he la las le
        les lo los más me mi mis mucho muy nada ni no nos nosotros nuestra nuestro o os otra otro para pero poco por
        porque qué que quien quién se sea ser si sí sin sobre soy su sus también tan tanto te tengo tiene tienen todo
        todos tu tus un una uno unos usted y ya yo gracias""",
    "portuguese": """a ao aos as até com como da das de dela dele deles depois do dos e é ela elas ele eles em entre era
        essa esse esta está este eu foi foram há isso isto já lhe mais mas me mesmo meu minha muito na nas não nem no
        nos nós nossa nosso num numa o onde os ou para pela pelo por porque qual quando que quem se sem ser seu sua são
        só também te tem tinha tu um uma você vocês obrigado obrigada sim""",
    "italian": """a ad ai al alla alle allo anche avere c che chi ci come con cosa cui da dal dalla dei del della delle
        dello di dove e è ed era erano essere fa fra gli ha hai hanno ho i il in io l la le lei li lo loro lui ma me mi
        mia mio ne nei nel nella no noi non nostro o per perché più poi può quale quando quanto quella quello questa
        questo qui se sei si sì sia siamo sono sta su sua sul sulla suo ti tra tu tua tuo tutti tutto un una uno vi voi
        grazie""",
    "dutch": """aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus een en er ge
        geen geweest haar had heb hebben heeft hem het hier hij hoe hun iets ik in is ja je jij jou jouw kan kon kunnen
        maar me meer men met mij mijn moet na naar niet niets nog nu of om omdat ons ook op over reeds te tegen toch
        toen tot u uit uw van veel voor waar wanneer want waren was wat we welke werd wezen wie wij wil wordt worden
        zal ze zei zelf zich zij zijn zo zonder zou""",
    "swedish": """alla att av blev bli blir då den denna deras dess det dig din du där efter ej eller en er ett från för
        ha hade han hans har henne hennes hon honom hur här i icke ingen inom inte jag ju kan kunde man med mellan men
        mig min mot mycket ni nu när någon något några och om oss på samma sedan sig sin skulle så till under upp ut
        utan vad var vara varför vem vi vid vilka är över""",
    "danish": """af alle at blev blive da de dem den denne der deres det dette dig din du efter eller en er et for fra
        ham han hans har havde hende her hun hvad hvem hver hvor hvordan hvornår i ikke ind jeg jo kan kunne man mange
        med meget men mig min mit mod når og også om op os over på sig sin skal skulle som til ud under var vi vil være
        været""",
    "turkish": """acaba ama ben beni benim bir biz bu bunu çok çünkü da daha de defa diye en gibi hem hep hiç için ile
        ise kadar kez ki kim mı mi mu mü nasıl ne neden nerede niye o onu onun sen siz şey şu tüm ve veya ya yani""",
    "polish": """a aby ale bardzo bez bo był była było były być co czy dla do gdy gdzie go i ich ile ja jak jako je jego
        jej jest jestem już każdy kiedy kto która które który ma mam mi mnie moja mój może na nad nas nie nim o od on
        ona oni po pod przez przy są się ta tak także te tego też to tu ty tylko w we więc wszystko z za że""",
    "russian": """а без более бы был была были было быть в вам вас весь во вот все всего всех вы где да даже для до его
        ее её если есть еще ещё же за здесь и из или им их к как какая какой какие ко когда которая которые который
        кто куда ли меня мне мной мой моя мы на над надо наш не него нее нет ни них но ну о об однако он она они оно
        от очень по под почему при с сам свой себе себя со так также такой там тебе тебя то того тоже той только том
        тот ты у уже хотя чего чем что чтобы чья эта эти это этого этой этом этот я спасибо""",
}

STOPS: dict[str, frozenset[str]] = {language: frozenset(text.split()) for language, text in _LISTS.items()}

LANGUAGES: dict[str, tuple[str, ...]] = {}
"""The languages, English aside, in which a word is a stop word. English is what nothing speaks against."""
for _language, _words in STOPS.items():
    for _word in _words:
        LANGUAGES[_word] = (*LANGUAGES.get(_word, ()), _language)
